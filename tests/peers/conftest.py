"""These tests need the second environment of `make peers`; without it they are not even collected."""

import importlib.util

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("mmseg") else ["test_*.py"]


@pytest.fixture
def show(record_property):
    """Lets a test that passes show what it compared, as a line of its own instead of a dot."""
    return lambda name, found: record_property("comparison", f"{name:<56}{found}")


def pytest_report_teststatus(report):
    line = dict(report.user_properties).get("comparison")
    if line and report.when == "call" and report.passed:
        return "passed", f"{line}  PASS\n", "PASSED"
    return None
