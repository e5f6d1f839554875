"""registry.known_files."""

import sqlite3
from collections.abc import Iterator

import pytest

from tests.real_models import smollm2
from tests.unit.gguf.writing import BytesSource, ModelFile
from unified_llm.domain.units import Seconds
from unified_llm.gguf.header import read_header
from unified_llm.registry import known_files as module
from unified_llm.registry.database import open_or_rebuild
from unified_llm.registry.files import ModelFiles
from unified_llm.registry.known_files import KEPT_UNSEEN, KnownFile, recall_files, remember_files

NOON = Seconds(1_700_000_000)
LORA = KnownFile(None, "It is an adapter.", is_companion=True)
REFUSED = KnownFile(None, "It is no model.")


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = open_or_rebuild(None, NOON).connection
    yield connection
    connection.close()


def read() -> KnownFile:
    content = ModelFile().packed()
    return KnownFile(read_header(BytesSource(content), len(content)), None)


def test_headers_and_defects_are_recalled_as_they_were(database: sqlite3.Connection) -> None:
    learned = {"a": read(), "b": REFUSED, "c": LORA}
    remember_files(database, learned, learned, NOON)
    assert recall_files(database) == learned


def test_the_header_of_a_real_model_survives(database: sqlite3.Connection) -> None:
    found = ModelFiles().inspect(smollm2())
    learned = {"a": KnownFile(found.header, found.defect)}
    remember_files(database, learned, learned, NOON)
    assert recall_files(database) == learned


def test_what_another_reader_said_is_not_believed(
    database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_files(database, {"a": read()}, ["a"], NOON)
    monkeypatch.setattr(module, "this_reader", lambda: "a later one")
    assert recall_files(database) == {}
    remember_files(database, {"a": REFUSED}, ["a"], NOON)
    assert recall_files(database) == {"a": REFUSED}


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b'{"architecture": 1}', b"\xff"])
def test_a_header_that_can_not_be_understood_is_read_again(
    database: sqlite3.Connection, header: bytes
) -> None:
    remember_files(database, {"a": read(), "b": REFUSED}, ["a", "b"], NOON)
    database.execute("UPDATE files SET header = ? WHERE identity = 'a'", (header,))
    assert recall_files(database) == {"b": REFUSED}


def test_files_long_unseen_are_forgotten(database: sqlite3.Connection) -> None:
    remember_files(database, {"a": REFUSED, "b": REFUSED}, ["a", "b"], NOON)
    later = Seconds(NOON + KEPT_UNSEEN)
    remember_files(database, {}, ["a"], later)
    assert recall_files(database).keys() == {"a", "b"}
    remember_files(database, {}, [], Seconds(later + 1))
    assert recall_files(database).keys() == {"a"}
