"""These tests need the second environment, which `make peers` builds; elsewhere each file is one skipped test.

`make peers` sets FCNBOOK_PEERS=required: there a peer that is missing is the error that it is.
"""

import importlib.util
import os

import pytest
from table_hooks import (  # noqa: F401  # found here, they are fixtures and hooks
    _cells,
    largest,
    pytest_addoption,
    pytest_configure,
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_terminal_summary,
    states,
)

PEERS = ("mmseg", "mmengine", "mmcv", "segmentation_models_pytorch", "ssseg")
"""Packages of `requirements.txt` that the ordinary environment lacks, as they are imported."""
MISSING = [name for name in PEERS if importlib.util.find_spec(name) is None]
WITHOUT = f"{', '.join(MISSING)} not installed here: `make peers` builds the environment for these tests, and runs them"


class WithoutPeers(pytest.File):
    """Stands in for a file of tests that could not even be imported."""

    def collect(self):
        yield SkippedFile.from_parent(self, name="without_peers")


class SkippedFile(pytest.Item):
    """Says in place of the tests of a file why they do not run."""

    def runtest(self):
        pytest.skip(WITHOUT)


def pytest_pycollect_makemodule(module_path, parent):
    if MISSING and os.environ.get("FCNBOOK_PEERS") != "required":
        return WithoutPeers.from_parent(parent, path=module_path)
    return None


@pytest.fixture
def show(record_property):
    """Lets a test that passes show what it compared, as a line of its own instead of a dot."""
    return lambda name, found: record_property("comparison", f"{name:<56}{found}")


def pytest_report_teststatus(report):
    line = dict(getattr(report, "user_properties", ())).get("comparison")  # a report on collection has none
    if line and report.when == "call" and report.passed:
        return "passed", f"{line}  PASS\n", "PASSED"
    return None
