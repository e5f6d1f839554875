"""registry.usage."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest

from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money
from unified_llm.domain.units import Seconds
from unified_llm.domain.usage import UsageLine
from unified_llm.registry.database import open_or_rebuild
from unified_llm.registry.usage import record_usage, usage_since

LINE = UsageLine(
    "2026-11-22", "uid:1000", "far", ModelId("far/a"), 1, 10, 5, 4, 3, 2, Money(10**13), 0, 1
)


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = open_or_rebuild(None, Seconds(0)).connection
    yield connection
    connection.close()


def test_lines_of_one_key_add_up_exactly(database: sqlite3.Connection) -> None:
    record_usage(database, [LINE, LINE])
    record_usage(database, [LINE])
    assert usage_since(database, LINE.day) == (LINE.plus(LINE).plus(LINE),)


def test_days_and_users_are_told_apart(database: sqlite3.Connection) -> None:
    older = replace(LINE, day="2026-10-31")
    other = replace(LINE, principal="uid:1001")
    record_usage(database, [LINE, older, other])
    assert usage_since(database, "2026-11-01") == (LINE, other)
    assert usage_since(database, "2026-10-01", "uid:1000") == (LINE, older)
