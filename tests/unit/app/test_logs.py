"""Log lines keep to their line, and go where somebody reads them."""

import logging
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.app.logs import configure_logs, is_under_journald, set_level
from unified_llm.guard.audit import JournalDevice, StderrDevice


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def own_stderr() -> dict[str, str]:
    status = os.fstat(sys.stderr.fileno())
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def test_standard_error_may_or_may_not_be_the_journal() -> None:
    assert is_under_journald(own_stderr())
    assert not is_under_journald({"JOURNAL_STREAM": "1:2"})
    assert not is_under_journald({"JOURNAL_STREAM": "nonsense"})
    assert not is_under_journald({})


@pytest.mark.usefixtures("_root_logger")
def test_the_audit_goes_where_the_log_goes() -> None:
    assert isinstance(configure_logs("info", {}), StderrDevice)
    assert isinstance(configure_logs("info", own_stderr()), JournalDevice)


@pytest.mark.usefixtures("_root_logger")
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_value_breaks_its_line_or_moves_the_cursor(value: str) -> None:
    configure_logs("info", {})
    (handler,) = logging.getLogger().handlers
    record = logging.LogRecord("room", logging.INFO, "", 0, "said %s", (value,), None)
    line = handler.format(record)
    assert line.isprintable() or all(
        character > "\x9f" for character in line if not character.isprintable()
    )
    assert "\x1b" not in line
    assert "\n" not in line


@pytest.mark.usefixtures("_root_logger")
def test_the_level_can_be_changed_while_running() -> None:
    configure_logs("warning", {})
    set_level("debug")
    assert logging.getLogger().level == logging.DEBUG
