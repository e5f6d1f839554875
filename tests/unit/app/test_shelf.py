"""app.shelf."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.house import open_house
from tests.unit.registry.test_catalogue import named
from unified_llm.app.catalogue import CatalogueKeeper
from unified_llm.app.shelf import ModelShelf
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.events import FilesChanged
from unified_llm.domain.models import ModelId, imported_file_name, imported_model_id, is_model_id
from unified_llm.domain.units import Bytes
from unified_llm.downloads import local_import
from unified_llm.downloads.local_import import SourceFile
from unified_llm.operations.models import Models
from unified_llm.operations.watch import Watch
from unified_llm.registry.digests import Digests
from unified_llm.registry.store import Store, open_store
from unified_llm.settings.schema import Settings


class Scene(NamedTuple):
    shelf: ModelShelf
    keeper: CatalogueKeeper
    models: Models
    store: Store
    watch: Watch


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SourceFile]:
    path = tmp_path / "mine.gguf"
    path.write_bytes(named("Mine"))
    with SourceFile(os.open(path, os.O_RDONLY)) as opened:
        yield opened


@asynccontextmanager
async def shelf_over(
    directory: Path | None, *, declared: Path | None = None, prune: bool = False
) -> AsyncIterator[Scene]:
    models: dict[str, object] = {"directory": None if directory is None else str(directory)}
    if declared is not None:
        models["declared"] = {"path": str(declared)}
    settings = Settings.model_validate({"models": models, "downloads": {"prune": prune}})
    async with open_house() as house, open_store(None, unix_time=lambda: 0.0) as store:
        keeper = CatalogueKeeper(house.models, store, build="fake fake 1", unix_time=lambda: 0.0)
        await keeper.refresh(settings)
        yield Scene(
            ModelShelf(keeper, house.models, store), keeper, house.models, store, house.watch
        )


def ignore(done: Bytes, total: Bytes) -> None:
    pass


async def test_a_model_is_taken_in_under_its_name_with_its_digest(
    tmp_path: Path, source: SourceFile
) -> None:
    name = ModelId("org/Mine:q4")
    async with shelf_over(tmp_path / "models") as scene:
        (tmp_path / "models").mkdir()
        assert await scene.shelf.check(source, None) == "Mine-F32"
        assert await scene.shelf.check(source, name) == name
        shelved = await scene.shelf.add(source, name, ignore)
        assert shelved.digest == hashlib.sha256(named("Mine")).hexdigest()
        spec = scene.models.spec(name)
        assert spec.path == tmp_path / "models" / "imported" / "org%2FMine:q4.gguf"
        assert spec.identity is not None
        # Known already: it was computed on the way.
        assert spec.digest == shelved.digest
        digests = Digests(scene.store, bytes_per_second=Bytes(1))
        assert await digests.digest_of(spec.path, spec.identity) == shelved.digest
        with pytest.raises(InvalidRequest, match="already"):
            await scene.shelf.add(source, name, ignore)
        await scene.shelf.remove(spec)
        assert not scene.models.is_known(name)


async def test_without_a_directory_nothing_is_taken_in(source: SourceFile) -> None:
    async with shelf_over(None) as scene:
        await scene.shelf.sweep()
        with pytest.raises(InvalidRequest, match="no directory for models"):
            await scene.shelf.check(source, None)


async def test_a_name_too_long_for_a_file_is_refused(tmp_path: Path, source: SourceFile) -> None:
    async with shelf_over(tmp_path) as scene:
        with pytest.raises(InvalidRequest, match="can not be the name"):
            await scene.shelf.check(source, ModelId("a" + "/" * 127))


async def test_a_cancelled_import_leaves_nothing(
    tmp_path: Path, source: SourceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_import, "_CHUNK", 100)
    copying = asyncio.Event()
    async with shelf_over(tmp_path / "models") as scene:
        (tmp_path / "models").mkdir()

        def on_bytes(done: Bytes, total: Bytes) -> None:
            copying.set()

        async def add() -> None:
            await scene.shelf.add(source, ModelId("a"), on_bytes)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(add())
            await copying.wait()
            task.cancel()
        # It may have been too late: then the model is there as a whole.
        left = [path.name for path in (tmp_path / "models" / "imported").iterdir()]
        assert left == (["a.gguf"] if scene.models.is_known(ModelId("a")) else [])


async def test_what_a_power_cut_left_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "imported"
    folder.mkdir()
    (folder / ".a.gguf.partial").write_bytes(b"half")
    async with shelf_over(tmp_path) as scene:
        await scene.shelf.sweep()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("prune", [False, True])
async def test_imported_models_that_nobody_declares_go_if_the_settings_say_so(
    tmp_path: Path, *, prune: bool
) -> None:
    folder = tmp_path / "imported"
    folder.mkdir()
    kept, left, beside = folder / "kept.gguf", folder / "left.gguf", tmp_path / "beside.gguf"
    for path in (kept, left, beside):
        path.write_bytes(named(path.stem))
    async with shelf_over(tmp_path, declared=kept, prune=prune) as scene:
        assert scene.models.is_known(ModelId("left"))
        await scene.shelf.sweep()
        assert scene.models.is_known(ModelId("left")) is not prune
    assert (kept.exists(), beside.exists(), left.exists()) == (True, True, not prune)


@pytest.mark.parametrize("name", ["a", "org/name:tag", "A.b-c_d", "a//b"])
def test_a_file_name_holds_the_whole_id(name: str) -> None:
    file = imported_file_name(ModelId(name))
    assert "/" not in file
    assert is_model_id(name)
    assert imported_model_id(file.removesuffix(".gguf")) == name


async def test_a_digest_is_known_of_the_model_once_its_file_was_verified(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(named("Mine"))
    async with shelf_over(tmp_path) as scene:
        (model,) = scene.models.sound_ids()
        told: list[object] = []
        assert scene.models.spec(model).digest is None
        unsubscribe = scene.watch.subscribe(told.append)
        for remembered in (None, hashlib.sha256(named("Mine")).hexdigest()):
            verified = await scene.shelf.verify(scene.models.spec(model), ignore)
            assert verified.remembered == remembered
            assert scene.models.spec(model).digest == verified.digest
        unsubscribe()
    assert told.count(FilesChanged(frozenset({model}))) == 1
