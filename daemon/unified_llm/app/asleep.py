"""What a sleep of the machine means for the models: out before it, back after it."""

import asyncio
import logging
import os

from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds
from unified_llm.scheduler.loop import SchedulerLoop

_log = logging.getLogger(__name__)


class ModelsAsleep:
    """Empties the memory and fills it again; a host.logind.Sleeper.

    is_reloading: whether models that served before the sleep are loaded after it, unasked.
    load_limit: longest time one of them may take.
    """

    def __init__(
        self, scheduler: SchedulerLoop, *, is_reloading: bool, load_limit: Seconds
    ) -> None:
        self._scheduler = scheduler
        self._is_reloading = is_reloading
        self._load_limit = load_limit
        self._served: frozenset[ModelId] = frozenset()
        self._returning: asyncio.Queue[ModelId] = asyncio.Queue()
        self._is_asleep = False
        self._refusal: str | None = None

    @property
    def complaints(self) -> tuple[str, ...]:
        """A sentence for each thing that users should know of it now."""
        found = []
        if self._is_asleep:
            found.append("The machine is about to sleep: no model is loaded until it wakes.")
        if self._refusal is not None:
            found.append(f"Models do not leave memory before a sleep: {self._refusal}.")
        return tuple(found)

    def on_lock(self, refusal: str | None) -> None:
        """As in Sleeper."""
        self._refusal = refusal

    async def before_sleep(self, limit: Seconds) -> None:
        """Return when the memory is empty, or `limit` is over."""
        self._is_asleep = True
        self._served = self._scheduler.begin_suspension(limit)
        _log.info("a sleep is coming: %d models leave within %.1f s", len(self._served), limit)
        try:
            async with asyncio.timeout(limit):
                await self._scheduler.emptied()
        except TimeoutError:
            _log.error("memory is still held after %.1f s; the machine sleeps all the same", limit)
        else:
            _log.info("the memory is empty: the machine may sleep")

    def after_sleep(self) -> None:
        """Load again, first what waits, then what served before."""
        self._is_asleep = False
        self._scheduler.resume()
        _log.info("awake: models are loaded again")
        if self._is_reloading:
            for model in sorted(self._served):
                self._returning.put_nowait(model)

    async def run(self) -> None:
        """Bring models back, one after the other, until cancelled."""
        while True:
            model = await self._returning.get()
            try:
                await self._scheduler.ensure_loaded(
                    model, f"uid:{os.getuid()}", timeout=self._load_limit, by_hand=False
                )
            except UnifiedLlmError as error:
                _log.warning("%s does not come back after the sleep: %s", model, error)
