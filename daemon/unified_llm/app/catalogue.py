"""Keeps the catalogue in step with settings and disk."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from unified_llm.domain.errors import UnavailableError
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.units import Seconds
from unified_llm.registry.catalogue import Catalogue, build_catalogue
from unified_llm.registry.files import FileNews, ModelFiles
from unified_llm.registry.known_files import recall_files, remember_files
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
    """The one writer of the catalogue. complaints: a sentence for each file that is no model."""

    def __init__(
        self, models: TakesCatalogue, store: Store, *, unix_time: Callable[[], float]
    ) -> None:
        self._models = models
        self._store = store
        self._unix_time = unix_time
        self._files = ModelFiles()
        self.complaints: tuple[str, ...] = ()

    async def recall(self) -> None:
        """Believe what the store knows of files that have not changed."""
        try:
            self._files.recall(await self._store.read(recall_files))
        except UnavailableError as error:
            _log.warning("every model file is read again: %s", error)

    async def refresh(self, settings: Settings) -> None:
        """Look at the disk again, in a thread, and take what is found."""
        catalogue = await asyncio.to_thread(build_catalogue, settings, self._files)
        for problem in catalogue.problems:
            level = logging.WARNING if problem.is_fault else logging.INFO
            _log.log(level, "%s: %s", problem.path, problem.message)
        self.complaints = _complaints(catalogue)
        self._models.replace_catalogue(catalogue.models)
        _log.info("%d models in the catalogue", len(catalogue.models))
        await self._remember(self._files.take_news())

    async def _remember(self, news: FileNews) -> None:
        now = Seconds(self._unix_time())
        try:
            await self._store.write(
                lambda database: remember_files(database, news.learned, news.seen, now)
            )
        except UnavailableError as error:
            _log.warning("what was read of model files is not kept: %s", error)


def _complaints(catalogue: Catalogue) -> tuple[str, ...]:
    """Fit for anybody at a door: without folders, and with odd characters in names escaped."""
    faults = [problem for problem in catalogue.problems if problem.is_fault]
    shown = [f"{problem.path.name!r}: {problem.message}" for problem in faults[:MAX_COMPLAINTS]]
    more = len(faults) - len(shown)
    return (*shown, *([f"and {more} more files, see the log"] if more else []))
