"""When the disk is looked at again, and which changes on it are a reason."""

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from unified_llm.domain.units import Seconds
from unified_llm.host.folder_watch import Interest
from unified_llm.operations.library import ScanReport
from unified_llm.registry.catalogue import Catalogue
from unified_llm.registry.files import files_of
from unified_llm.settings.schema import Settings

# A program that unpacks models closes many files within this time.
QUIET_SECONDS: Final = Seconds(0.5)
LONGEST_SECONDS: Final = Seconds(5)


def folders_of(settings: Settings, catalogue: Catalogue) -> dict[Path, Interest]:
    """The folders whose changes may change the catalogue, and which names in them do."""
    names: dict[Path, set[str]] = {}
    configured = settings.models.configured.values()
    paths = [path for entry in configured for path in files_of(entry.path)]
    paths += [adapter.path for entry in configured for adapter in entry.adapters.values()]
    paths += [entry.projector for entry in configured if entry.projector is not None]
    directory = settings.models.directory
    if directory is not None and not catalogue.folders:
        # It may come; watched is the nearest folder above it that is there.
        paths.append(_first_missing(directory))
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    interests: dict[Path, Interest] = {
        folder: partial(_is_among, frozenset(among)) for folder, among in names.items()
    }
    return interests | dict.fromkeys(catalogue.folders, _may_hold_models)


def _first_missing(path: Path) -> Path:
    while not path.parent.exists():
        path = path.parent
    return path


def _is_among(names: frozenset[str], name: str, is_folder: bool) -> bool:
    return name in names


def _may_hold_models(name: str, is_folder: bool) -> bool:
    return not name.startswith(".") and (is_folder or name.lower().endswith(".gguf"))


class LooksAgain(Protocol):
    """What looks at the disk; CatalogueKeeper does."""

    async def rescan(self) -> ScanReport: ...


class Rescans:
    """Looks again once changes on disk have settled.

    quiet: how long nothing must have happened. longest: after which it looks all the same.
    """

    def __init__(
        self,
        keeper: LooksAgain,
        *,
        quiet: Seconds = QUIET_SECONDS,
        longest: Seconds = LONGEST_SECONDS,
    ) -> None:
        self._keeper = keeper
        self._quiet = quiet
        self._longest = longest
        self._came = asyncio.Event()

    def on_change(self) -> None:
        """Something has changed."""
        self._came.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._came.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._longest):
                    await self._settle()
            self._came.clear()
            await self._keeper.rescan()

    async def _settle(self) -> None:
        while self._came.is_set():
            self._came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._quiet):
                    await self._came.wait()
