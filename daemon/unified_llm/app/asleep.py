"""What a sleep of the machine means for the models: out before it, back after it.

GPUs are tried here too, since a sleep is what they do not survive most often.

Rule 1: nothing is loaded between the first word of a sleep and the trial of the GPUs after it.
Rule 2: a sleep that nobody announced is found by the clocks. Whatever models had on GPUs by then is
    not trusted, and they leave as before a sleep.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from unified_llm.app.gpu_loss import GpuLoss
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds
from unified_llm.scheduler.loop import SchedulerLoop

_log = logging.getLogger(__name__)

_LOOK: Final = Seconds(30)
# Clocks are read one after the other, and this process may have to wait in between.
_LEAST_SLEEP: Final = Seconds(1)
# Of the time there is, for programs that hold a lock in mode delay.
_COURTESY: Final = 0.25
_UNANNOUNCED: Final = Seconds(10)
# As PrepareForUnload calls it.
_SLEEP: Final = "suspend"
_SLEPT: Final = "the machine slept"


class UnloadLocks(Protocol):
    """What programs hold against models leaving; operations.inhibitors.Inhibitors is one."""

    @property
    def is_unload_blocked(self) -> bool:
        """Whether they shall stay."""

    @property
    def delayed(self) -> str:
        """What somebody needs time before; empty if nobody does."""

    async def undelayed(self) -> None:
        """Wait until nobody needs time before they leave."""


class _NoLocks:
    is_unload_blocked = False
    delayed = ""

    async def undelayed(self) -> None:
        """Nobody can hold any without a bus."""


class ModelsAsleep:
    """Empties the memory and fills it again; a host.logind.Sleeper.

    on_unload: told `suspend` or `shutdown`, and whether it begins; returns at once.
    on_change: told when `is_suspending` or `complaints` are others; returns at once.
    is_reloading: whether models that served before the sleep are loaded after it, unasked.
    load_limit: longest time one of them may take. suspended_time: as host.clock has it.
    plenty: returns when models may be loaded that nobody asks for.
    locks: who is asked before models leave.
    look: how often it is looked for unannounced sleeps, and lost GPUs are tried again.
    """

    def __init__(
        self,
        scheduler: SchedulerLoop,
        gpus: GpuLoss,
        *,
        is_reloading: bool,
        load_limit: Seconds,
        suspended_time: Callable[[], Seconds],
        plenty: Callable[[], Awaitable[None]],
        look: Seconds = _LOOK,
    ) -> None:
        self._scheduler = scheduler
        self._gpus = gpus
        self._is_reloading = is_reloading
        self._load_limit = load_limit
        self._suspended_time = suspended_time
        self._plenty = plenty
        self._look = look
        self._slept = suspended_time()
        self._served: frozenset[ModelId] = frozenset()
        self._returning: asyncio.Queue[ModelId] = asyncio.Queue()
        self._stirred = asyncio.Event()
        self._has_woken = False
        self._away: set[str] = set()
        self._refusal: str | None = None
        self._is_kept = False
        self.locks: UnloadLocks = _NoLocks()
        self._told: str | None = None
        self.on_unload: Callable[[str, bool], None] = lambda reason, begins: None
        self.on_change: Callable[[], None] = lambda: None
        gpus.on_due = self._stirred.set

    @property
    def is_suspending(self) -> bool:
        """Whether models have left for a sleep, or are about to, and may not come back yet."""
        return self._told == _SLEEP

    @property
    def complaints(self) -> tuple[str, ...]:
        """A sentence for each thing that users should know of it now."""
        found = []
        if self._away:
            reasons = " and ".join(sorted(self._away))
            found.append(f"The machine {reasons}: no model is loaded until that is over.")
        if self._refusal is not None:
            found.append(f"Models do not leave memory before a sleep: {self._refusal}.")
        if self._gpus.complaint is not None:
            found.append(self._gpus.complaint)
        return tuple(found)

    def on_lock(self, refusal: str | None) -> None:
        """As in Sleeper."""
        self._refusal = refusal

    async def before_sleep(self, limit: Seconds, *, is_shutdown: bool) -> None:
        """Return when the memory is empty, or `limit` is over."""
        if self.locks.is_unload_blocked and not is_shutdown:
            _log.info("a program keeps models in memory over this sleep")
            self._is_kept = True
            return
        self._is_kept = False
        self._tell("shutdown" if is_shutdown else _SLEEP)
        courtesy = Seconds(limit * _COURTESY if self.locks.delayed else 0)
        try:
            async with asyncio.timeout(courtesy):
                await self.locks.undelayed()
        except TimeoutError:
            _log.warning("a program has delayed this for %.1f s; it is not waited for", courtesy)
        reason = "is about to be shut down" if is_shutdown else "is about to sleep"
        await self._leave(reason, Seconds(limit - courtesy))

    def after_sleep(self) -> None:
        """Load again, once the GPUs have been tried: first what waits, then what served before."""
        if not self._is_kept:
            self._slept = self._suspended_time()
        self._away.clear()
        self._has_woken = True
        self._stirred.set()

    async def run(self) -> None:
        """Try GPUs, find unannounced sleeps and bring models back, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wake_up())
            group.create_task(self._bring_back())

    def _tell(self, reason: str) -> None:
        self._told = reason
        self.on_unload(reason, True)
        self.on_change()

    async def _leave(self, reason: str, limit: Seconds) -> None:
        self._away.add(reason)
        self._served |= self._scheduler.begin_suspension(limit)
        self.on_change()
        _log.info("the machine %s: all models leave within %.1f s", reason, limit)
        try:
            async with asyncio.timeout(limit):
                await self._scheduler.emptied()
        except TimeoutError:
            _log.error("memory is still held after %.1f s; it is not waited for", limit)
        else:
            _log.info("the memory is empty")

    async def _wake_up(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look):
                    await self._stirred.wait()
            self._stirred.clear()
            has_woken, self._has_woken = self._has_woken, False
            if has_woken and not self._is_kept:
                await self._resume()
            else:
                await self._look_around()

    async def _look_around(self) -> None:
        if self._away:
            return
        was_kept, self._is_kept = self._is_kept, False
        slept = Seconds(self._suspended_time() - self._slept)
        if slept < _LEAST_SLEEP:
            if self._gpus.complaint is not None:
                await self._gpus.ensure_known()
            return
        if not was_kept:
            _log.warning("the machine has slept for %.0f s, and nobody announced it", slept)
        self._slept = self._suspended_time()
        reason = "has slept with models on its GPUs"
        if any(status.placement and status.placement.gpus for status in self._scheduler.statuses()):
            self._tell(_SLEEP)
            await self._leave(reason, _UNANNOUNCED)
            self._away.discard(reason)
        await self._resume()

    async def _resume(self) -> None:
        await self._gpus.ensure_known(_SLEPT)
        if self._away:
            return  # the next sleep has been announced meanwhile
        self._scheduler.resume()
        told, self._told = self._told, None
        if told is not None:
            self.on_unload(told, False)
        self.on_change()
        _log.info("awake: models may be loaded again")
        served, self._served = self._served, frozenset()
        if self._is_reloading:
            for model in sorted(served):
                self._returning.put_nowait(model)

    async def _bring_back(self) -> None:
        while True:
            model = await self._returning.get()
            await self._plenty()
            try:
                await self._scheduler.ensure_loaded(
                    model, f"uid:{os.getuid()}", timeout=self._load_limit, by_hand=False
                )
            except UnifiedLlmError as error:
                _log.warning("%s does not come back after the sleep: %s", model, error)
