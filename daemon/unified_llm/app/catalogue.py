"""Keeps the catalogue in step with settings and disk."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from unified_llm.app.rescans import folders_of
from unified_llm.domain.errors import UnavailableError
from unified_llm.domain.measurements import Figure
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.units import Seconds
from unified_llm.host.folder_watch import Interest
from unified_llm.operations.library import ScanReport
from unified_llm.registry.catalogue import Catalogue, build_catalogue
from unified_llm.registry.digests import digests_by_file
from unified_llm.registry.files import FileNews, ModelFiles
from unified_llm.registry.known_files import recall_files, remember_files
from unified_llm.registry.measurements import figures_by_file
from unified_llm.registry.store import Store
from unified_llm.settings.schema import Settings

_log = logging.getLogger(__name__)


class TakesCatalogue(Protocol):
    """What a catalogue is given to; operations.models.Models and fleet.kept_states.KeptStates."""

    def replace_catalogue(self, specs: dict[ModelId, ModelSpec], /) -> None: ...


class Takers:
    """All that a catalogue is given to, in this order."""

    def __init__(self, *takers: TakesCatalogue) -> None:
        self._takers = takers

    def replace_catalogue(self, specs: dict[ModelId, ModelSpec]) -> None:
        """As TakesCatalogue."""
        for each in self._takers:
            each.replace_catalogue(specs)


# The rest stands in the log: health is asked for often, and a directory may hold anything.
MAX_COMPLAINTS: Final = 20


class CatalogueKeeper:
    """The one writer of the catalogue. complaints: a sentence for each file that is no model.

    build: the engine, as it names itself; figures of another one do not hold. on_folders: told
    after each look which folders the catalogue depends on.
    """

    def __init__(
        self, models: TakesCatalogue, store: Store, *, build: str, unix_time: Callable[[], float]
    ) -> None:
        self._models = models
        self._store = store
        self._build = build
        self._unix_time = unix_time
        self._specs: Mapping[ModelId, ModelSpec] = {}
        self._files = ModelFiles()
        self._one_at_a_time = asyncio.Lock()
        self._ids: frozenset[ModelId] = frozenset()
        self.settings = Settings()
        self.complaints: tuple[str, ...] = ()
        self.on_folders: Callable[[Mapping[Path, Interest]], None] = lambda interests: None

    async def recall(self) -> None:
        """Believe what the store knows of files that have not changed."""
        try:
            self._files.recall(await self._store.read(recall_files))
        except UnavailableError as error:
            _log.warning("every model file is read again: %s", error)

    async def refresh(self, settings: Settings) -> ScanReport:
        """Look at the disk under these settings from now on, and take what is found."""
        self.settings = settings
        return await self.rescan()

    async def rescan(self) -> ScanReport:
        """Look at the disk again, in a thread, and take what is found."""
        async with self._one_at_a_time:
            settings = self.settings
            catalogue = await asyncio.to_thread(build_catalogue, settings, self._files)
            self._specs = catalogue.models
            report = self._take(catalogue, await self._with_knowledge())
            self.on_folders(folders_of(settings, catalogue))
            await self._remember(self._files.take_news())
            return report

    async def relearn(self) -> None:
        """Give the models of the last look what has been learned of their files since."""
        async with self._one_at_a_time:
            self._models.replace_catalogue(await self._with_knowledge())

    async def _with_knowledge(self) -> dict[ModelId, ModelSpec]:
        try:
            figures, digests = await self._store.read(
                lambda database: (figures_by_file(database, self._build), digests_by_file(database))
            )
        except UnavailableError as error:
            _log.warning("what was learned of model files is not known: %s", error)
            return dict(self._specs)
        return {
            model: spec
            if spec.identity is None
            else replace(
                spec,
                figures=_of_its_companions(spec, figures.get(spec.identity, ())),
                digest=digests.get(spec.identity),
            )
            for model, spec in self._specs.items()
        }

    def _take(self, catalogue: Catalogue, specs: dict[ModelId, ModelSpec]) -> ScanReport:
        complaints = _complaints(catalogue)
        if complaints != self.complaints:
            for problem in catalogue.problems:
                level = logging.WARNING if problem.is_fault else logging.INFO
                _log.log(level, "%s: %s", problem.path, problem.message)
        self.complaints = complaints
        self._models.replace_catalogue(specs)
        before, self._ids = self._ids, frozenset(catalogue.models)
        report = ScanReport(
            models=len(self._ids),
            added=len(self._ids - before),
            removed=len(before - self._ids),
            problems=sum(problem.is_fault for problem in catalogue.problems),
        )
        _log.info("%d models in the catalogue", report.models)
        return report

    async def _remember(self, news: FileNews) -> None:
        now = Seconds(self._unix_time())
        try:
            await self._store.write(
                lambda database: remember_files(database, news.learned, news.seen, now)
            )
        except UnavailableError as error:
            _log.warning("what was read of model files is not kept: %s", error)


def _of_its_companions(spec: ModelSpec, figures: tuple[Figure, ...]) -> tuple[Figure, ...]:
    return tuple(each for each in figures if each.run.beside_bytes == spec.beside_bytes)


def _complaints(catalogue: Catalogue) -> tuple[str, ...]:
    """Fit for anybody at a door: without folders, and with odd characters in names escaped."""
    faults = [problem for problem in catalogue.problems if problem.is_fault]
    shown = [f"{problem.path.name!r}: {problem.message}" for problem in faults[:MAX_COMPLAINTS]]
    more = len(faults) - len(shown)
    return (*shown, *([f"and {more} more files, see the log"] if more else []))
