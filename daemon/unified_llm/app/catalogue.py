"""Keeps the catalogue in step with settings and disk."""

import asyncio
import logging
from typing import Final, Protocol

from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.registry.catalogue import Catalogue, build_catalogue
from unified_llm.registry.files import ModelFiles
from unified_llm.settings.schema import Settings

_log = logging.getLogger(__name__)


class TakesCatalogue(Protocol):
    """What a catalogue is given to; operations.models.Models is one."""

    def replace_catalogue(self, specs: dict[ModelId, ModelSpec], /) -> None: ...


# The rest stands in the log: health is asked for often, and a directory may hold anything.
MAX_COMPLAINTS: Final = 20


class CatalogueKeeper:
    """The one writer of the catalogue. complaints: a sentence for each file that is no model."""

    def __init__(self, models: TakesCatalogue) -> None:
        self._models = models
        self._files = ModelFiles()
        self.complaints: tuple[str, ...] = ()

    async def refresh(self, settings: Settings) -> None:
        """Look at the disk again, in a thread, and take what is found."""
        catalogue = await asyncio.to_thread(build_catalogue, settings, self._files)
        for problem in catalogue.problems:
            level = logging.WARNING if problem.is_fault else logging.INFO
            _log.log(level, "%s: %s", problem.path, problem.message)
        self.complaints = _complaints(catalogue)
        self._models.replace_catalogue(catalogue.models)
        _log.info("%d models in the catalogue", len(catalogue.models))


def _complaints(catalogue: Catalogue) -> tuple[str, ...]:
    """Fit for anybody at a door: without folders, and with odd characters in names escaped."""
    faults = [problem for problem in catalogue.problems if problem.is_fault]
    shown = [f"{problem.path.name!r}: {problem.message}" for problem in faults[:MAX_COMPLAINTS]]
    more = len(faults) - len(shown)
    return (*shown, *([f"and {more} more files, see the log"] if more else []))
