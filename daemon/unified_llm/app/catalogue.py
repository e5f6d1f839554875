"""Keeps the catalogue in step with settings and disk."""

import asyncio
import logging

from unified_llm.operations.models import Models
from unified_llm.registry.catalogue import build_catalogue
from unified_llm.registry.files import ModelFiles
from unified_llm.settings.schema import Settings

_log = logging.getLogger(__name__)


class CatalogueKeeper:
    """The one writer of the catalogue. complaints: a sentence for each file that is no model."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._files = ModelFiles()
        self.complaints: tuple[str, ...] = ()

    async def refresh(self, settings: Settings) -> None:
        """Look at the disk again, in a thread, and take what is found."""
        catalogue = await asyncio.to_thread(build_catalogue, settings, self._files)
        for problem in catalogue.problems:
            level = logging.WARNING if problem.is_fault else logging.INFO
            _log.log(level, "%s: %s", problem.path, problem.message)
        self.complaints = tuple(
            f"{problem.path}: {problem.message}"
            for problem in catalogue.problems
            if problem.is_fault
        )
        self._models.replace_catalogue(catalogue.models)
        _log.info("%d models in the catalogue", len(catalogue.models))
