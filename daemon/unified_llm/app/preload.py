"""Models that are there before anybody asks for them."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Protocol

from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds
from unified_llm.settings.schema import Settings

_log = logging.getLogger(__name__)


class LoadsModels(Protocol):
    """What loads them; scheduler.loop.SchedulerLoop is one."""

    async def ensure_loaded(
        self, model: ModelId, principal: str, /, *, timeout: Seconds, by_hand: bool
    ) -> None:
        """Return when it serves. Raises UnifiedLlmError."""


class Preload:
    """Loads each model once that the settings want loaded, at the start or since a reload.

    One that has left memory since stays out until it is asked for. load_limit: longest time one may
    take. plenty: returns when models may be loaded that nobody asks for.
    """

    def __init__(
        self, scheduler: LoadsModels, *, load_limit: Seconds, plenty: Callable[[], Awaitable[None]]
    ) -> None:
        self._scheduler = scheduler
        self._plenty = plenty
        self._load_limit = load_limit
        self._wanted: frozenset[ModelId] = frozenset()
        self._waiting: asyncio.Queue[ModelId] = asyncio.Queue()

    def follow(self, settings: Settings) -> None:
        """From now on these are the settings; the catalogue has been told of them."""
        models = settings.models.configured
        wanted = frozenset(model for model, each in models.items() if each.preload)
        for model in sorted(wanted - self._wanted):
            self._waiting.put_nowait(model)
        self._wanted = wanted

    async def run(self) -> None:
        """Load them, one after the other, until cancelled."""
        principal = f"uid:{os.getuid()}"
        while True:
            model = await self._waiting.get()
            await self._plenty()
            try:
                await self._scheduler.ensure_loaded(
                    model, principal, timeout=self._load_limit, by_hand=False
                )
            except UnifiedLlmError as error:
                _log.warning("%s is not loaded ahead of requests: %s", model, error)
