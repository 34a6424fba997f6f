"""Hooks and fixtures of the table in `table.py`; the conftest imports them, which makes them pytest's."""

import pytest
import table

FINDINGS = pytest.StashKey[list[table.Finding]]()


@pytest.fixture
def largest(record_property):
    """Lets a test with a cell of the table say the largest difference it found, and its unit if it is not relative."""
    return lambda difference, unit="": record_property("difference", (float(difference), unit))


@pytest.fixture
def states(record_property):
    """Lets a test with a cell say what differs and where this project says so; see `table.statement`."""
    return lambda what, **where: record_property("stated", table.statement(what, **where))


@pytest.fixture(autouse=True)
def _cells(request, record_property):
    for mark in request.node.iter_markers("cell"):
        record_property("cell", mark.args)


def pytest_addoption(parser):
    parser.addoption("--write-table", action="store_true", help="write the table into tests/peers/README.md")


def pytest_configure(config):
    config.addinivalue_line("markers", "cell(source, aspect): the test fills a cell of the table of table.py")
    config.stash[FINDINGS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.when == "call" or (report.when == "setup" and not report.passed):
        said = {
            key: tuple(v for k, v in report.user_properties if k == key) for key in ("difference", "stated")
        }
        for source, aspect in (mark.args for mark in item.iter_markers("cell")):
            finding = table.Finding(source, aspect, _outcome(report), said["difference"], said["stated"])
            item.config.stash[FINDINGS].append(finding)
    return report


def _outcome(report):
    if hasattr(report, "wasxfail"):
        return report.wasxfail if report.skipped else "failed"
    if report.skipped:
        return f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
    return report.outcome


def pytest_terminal_summary(terminalreporter, config):
    findings = config.stash[FINDINGS]
    if not findings:
        return
    texts = table.texts_of(findings)
    terminalreporter.section("the table")
    for line in table.as_lines(texts):
        terminalreporter.write_line(line)
    if config.getoption("write_table", False):
        table.PAGE.write_text(table.page_with(texts))
        terminalreporter.write_line(f"\nwritten to {table.PAGE}")


def pytest_sessionfinish(session):
    """The stored table must be the one of these tests, if all of them ran."""
    texts = table.texts_of(session.config.stash[FINDINGS])
    if session.config.getoption("write_table", False) or "not run" in texts.values():
        return
    changed = table.differs_from_page(texts)
    if changed:
        session.config.get_terminal_writer().line(
            "\ntests/peers/README.md holds another table; `make peers TABLE=--write-table` renews it:\n"
            + "\n".join(changed)
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
