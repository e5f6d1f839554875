"""app.rescans."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.tiny_gguf import write_tiny_gguf
from unified_llm.app.catalogue import CatalogueKeeper
from unified_llm.app.rescans import Rescans, folders_of
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.units import Seconds
from unified_llm.operations.library import ScanReport
from unified_llm.registry.catalogue import build_catalogue
from unified_llm.registry.files import ModelFiles
from unified_llm.registry.store import open_store
from unified_llm.settings.schema import Settings


def settings(directory: Path | None, **models: Any) -> Settings:
    where = None if directory is None else str(directory)
    return Settings.model_validate({"models": {"directory": where, **models}})


def watched(asked: Settings) -> dict[Path, set[str]]:
    """For each folder that matters, which of some names do."""
    names = [("a.gguf", False), ("b.txt", False), ("sub", True), (".hidden", True), ("x", False)]
    catalogue = build_catalogue(asked, ModelFiles())
    return {
        folder: {name for name, is_folder in names if interest(name, is_folder)}
        for folder, interest in folders_of(asked, catalogue).items()
    }


def test_every_folder_of_the_directory_matters_for_models_and_folders(tmp_path: Path) -> None:
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    folders = [tmp_path, tmp_path / "one", tmp_path / "one" / "two"]
    assert watched(settings(tmp_path)) == {folder: {"a.gguf", "sub"} for folder in folders}


def test_of_a_configured_file_only_its_own_name_matters(tmp_path: Path) -> None:
    asked = settings(None, m={"path": str(tmp_path / "x")}, n={"path": str(tmp_path / "b.txt")})
    assert watched(asked) == {tmp_path: {"x", "b.txt"}}


def test_the_files_of_adapters_and_projectors_matter_too(tmp_path: Path) -> None:
    beside = {
        "adapters": {"law": {"path": str(tmp_path / "laws" / "a.gguf")}},
        "projector": str(tmp_path / "eyes" / "x"),
    }
    asked = settings(None, tiny={"path": str(tmp_path / "x"), **beside})
    assert watched(asked) == {
        tmp_path: {"x"},
        tmp_path / "laws": {"a.gguf"},
        tmp_path / "eyes": {"x"},
    }


def test_a_directory_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    assert watched(settings(tmp_path / "x" / "models")) == {tmp_path: {"x"}}


class Keeper:
    """Stands for CatalogueKeeper; counts."""

    def __init__(self) -> None:
        self.looks = 0
        self.looked = asyncio.Event()

    async def rescan(self) -> ScanReport:
        self.looks += 1
        self.looked.set()
        return ScanReport(0, 0, 0, 0)


@asynccontextmanager
async def rescanning(*, quiet: float, longest: float) -> AsyncIterator[tuple[Rescans, Keeper]]:
    keeper = Keeper()
    rescans = Rescans(keeper, quiet=Seconds(quiet), longest=Seconds(longest))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rescans.run())
        async with asyncio.timeout(60):
            yield rescans, keeper
        task.cancel()


async def test_many_changes_are_one_look() -> None:
    async with rescanning(quiet=0.02, longest=3600) as (rescans, keeper):
        for _ in range(50):
            rescans.on_change()
            await asyncio.sleep(0)
        assert keeper.looks == 0
        await keeper.looked.wait()
        assert keeper.looks == 1


async def test_changes_without_end_do_not_put_the_look_off_for_ever() -> None:
    async with rescanning(quiet=3600, longest=0) as (rescans, keeper):
        rescans.on_change()
        await keeper.looked.wait()


async def test_a_change_during_a_look_is_looked_at_too() -> None:
    async with rescanning(quiet=0, longest=3600) as (rescans, keeper):
        rescans.on_change()
        await keeper.looked.wait()
        keeper.looked.clear()
        rescans.on_change()
        await keeper.looked.wait()
        assert keeper.looks == 2


class Kept:
    """Stands for operations.models.Models."""

    def replace_catalogue(self, specs: dict[ModelId, ModelSpec]) -> None:
        pass


async def test_a_look_tells_what_has_come_and_gone(tmp_path: Path) -> None:
    for name in "abc":
        write_tiny_gguf(tmp_path / f"{name}.gguf")
    async with open_store(None, unix_time=lambda: 0.0) as store:
        keeper = CatalogueKeeper(Kept(), store, build="fake fake 1", unix_time=lambda: 0.0)
        assert await keeper.refresh(settings(tmp_path)) == ScanReport(3, 3, 0, 0)
        (tmp_path / "a.gguf").unlink()
        (tmp_path / "b.gguf").rename(tmp_path / "d.gguf")
        (tmp_path / "e.gguf").write_bytes(b"nothing")
        assert await keeper.rescan() == ScanReport(2, 1, 2, 1)
