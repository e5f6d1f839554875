"""What the doors say of files that are no models."""

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny_gguf import write_tiny_gguf
from unified_llm.app.catalogue import MAX_COMPLAINTS, CatalogueKeeper
from unified_llm.domain.measurements import Figure, MeasuredRun, Measurement
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.registry.digests import remember_digest
from unified_llm.registry.files import file_key
from unified_llm.registry.measurements import record_measurement
from unified_llm.registry.store import Store, open_store
from unified_llm.settings.load import parse_settings
from unified_llm.settings.schema import Settings

TINY = ModelId("tiny")
BUILD = "llama llama-cpp-python 0.3.36"


class KeptSpecs:
    """Stands for operations.models.Models, which needs the whole house."""

    def __init__(self) -> None:
        self.specs: dict[ModelId, ModelSpec] = {}

    def replace_catalogue(self, specs: dict[ModelId, ModelSpec]) -> None:
        self.specs = specs


def unix_time() -> float:
    return 1_700_000_000.0


async def specs_of(directory: Path, store: Store) -> dict[ModelId, ModelSpec]:
    """What a daemon that starts now would have in its catalogue."""
    kept = KeptSpecs()
    keeper = CatalogueKeeper(kept, store, build=BUILD, unix_time=unix_time)
    await keeper.recall()
    await keeper.refresh(scanning(directory))
    return kept.specs


def scanning(directory: Path) -> Settings:
    return parse_settings(f"models: {{directory: {directory}}}".encode(), source="test")


async def complaints_about(directory: Path) -> tuple[str, ...]:
    async with open_store(None, unix_time=unix_time) as store:
        keeper = CatalogueKeeper(KeptSpecs(), store, build=BUILD, unix_time=unix_time)
        await keeper.refresh(scanning(directory))
        return keeper.complaints


async def test_a_complaint_names_the_file_but_not_its_folder(tmp_path: Path) -> None:
    (tmp_path / "bad\u202etxt.gguf").write_bytes(b"nothing")
    (complaint,) = await complaints_about(tmp_path)
    assert complaint.startswith("'")
    assert complaint.isprintable()
    assert str(tmp_path) not in complaint


async def test_a_directory_full_of_them_is_summed_up(tmp_path: Path) -> None:
    for number in range(MAX_COMPLAINTS + 5):
        (tmp_path / f"{number}.gguf").write_bytes(b"nothing")
    complaints = await complaints_about(tmp_path)
    assert len(complaints) == MAX_COMPLAINTS + 1
    assert complaints[-1] == "and 5 more files, see the log"


async def test_a_restart_reads_no_header_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, path = tmp_path / "models", tmp_path / "registry.db"
    models.mkdir()
    write_tiny_gguf(models / "tiny.gguf")
    async with open_store(path, unix_time=unix_time) as store:
        first = await specs_of(models, store)

    def refuse(descriptor: int, length: int, offset: int) -> bytes:
        raise AssertionError("the file is read")

    monkeypatch.setattr(os, "pread", refuse)
    async with open_store(path, unix_time=unix_time) as store:
        assert await specs_of(models, store) == first != {}


async def test_a_store_that_takes_nothing_does_not_hold_up_the_scan(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    async with open_store(None, unix_time=unix_time) as store:
        await store.read(lambda database: database.execute("PRAGMA query_only = ON").fetchall())
        assert list(await specs_of(tmp_path, store)) == ["tiny"]
        assert store.complaints


async def test_what_loads_took_is_known_of_the_model_whose_file_it_was(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_tiny_gguf(models / "tiny.gguf")
    kept, digest = KeptSpecs(), "ab" * 32
    run = MeasuredRun(digest, Tokens(512), 2, "f16", 512, (), BUILD)
    async with open_store(tmp_path / "registry.db", unix_time=unix_time) as store:
        keeper = CatalogueKeeper(kept, store, build=BUILD, unix_time=unix_time)
        await keeper.refresh(scanning(models))
        assert (kept.specs[TINY].figures, kept.specs[TINY].digest) == ((), None)

        def learn(database: sqlite3.Connection) -> None:
            remember_digest(database, file_key((models / "tiny.gguf").stat()), digest)
            adapted = replace(run, beside_bytes=Bytes(34))
            for each in (run, replace(run, slots=3, build="llama of yesterday"), adapted):
                record_measurement(database, each, Measurement({"ram": Bytes(1000)}, Seconds(7)))

        await store.write(learn)
        await keeper.relearn()
        assert kept.specs[TINY].figures == (Figure(run, {"ram": Bytes(1000)}),)
        assert kept.specs[TINY].digest == digest
    async with open_store(tmp_path / "registry.db", unix_time=unix_time) as store:
        specs = await specs_of(models, store)
        assert specs[TINY].figures == (Figure(run, {"ram": Bytes(1000)}),)


async def test_a_file_that_was_written_to_has_learned_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    run = MeasuredRun("ab" * 32, Tokens(512), 2, "f16", 512, (), BUILD)
    async with open_store(None, unix_time=unix_time) as store:
        await specs_of(tmp_path, store)

        def learn(database: sqlite3.Connection) -> None:
            remember_digest(database, file_key(path.stat()), run.digest)
            record_measurement(database, run, Measurement({"ram": Bytes(1000)}, Seconds(7)))

        await store.write(learn)
        os.utime(path, ns=(0, 0))
        found = (await specs_of(tmp_path, store))[TINY]
        assert (found.figures, found.digest) == ((), None)
