"""A skipped test proves nothing: with `--forbid-skips`, or in CI, a skip turns the run red.

Only a test marked `gpu` may be skipped, for want of the device.
"""

import os

import pytest

_FORBIDDEN = "a test was skipped that should have run"


class _SkipWatch:
    """Collects what was skipped, and says so when the session ends."""

    def __init__(self) -> None:
        self._skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped too, but it did run.
        if report.skipped and not hasattr(report, "wasxfail") and "gpu" not in report.keywords:
            self._skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for test in self._skipped:
            terminalreporter.write_line(f"FORBIDDEN SKIP {test}: {_FORBIDDEN}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--forbid-skips", action="store_true", help="fail when a test not marked gpu is skipped"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--forbid-skips") or os.environ.get("CI") == "true":
        config.pluginmanager.register(_SkipWatch(), "skip-watch")
