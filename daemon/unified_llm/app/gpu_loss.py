"""GPUs that do not come back from a sleep: told at every door, and no model falls to the CPU."""

import logging
from collections.abc import Awaitable, Callable, Collection

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.errors import GpuUnusable
from unified_llm.scheduler.loop import SchedulerLoop

_log = logging.getLogger(__name__)

Check = Callable[[Collection[DeviceId]], Awaitable[str | None]]
"""Why GPUs of those do not work, in a sentence; None if all do. hardware.gpu_check is one."""


class GpuLoss:
    """Remembers which GPUs there were, and has them tried.

    is_refusing: whether models that may be computed on GPUs are refused while one is lost, and not
    loaded without it. on_change: told of each change; returns at once.
    """

    def __init__(
        self,
        scheduler: SchedulerLoop,
        check: Check,
        *,
        is_refusing: bool,
        on_change: Callable[[str | None], None],
    ) -> None:
        self._scheduler = scheduler
        self._check = check
        self._is_refusing = is_refusing
        self._on_change = on_change
        self._expected: frozenset[DeviceId] = frozenset()
        self.complaint: str | None = None

    def remember(self) -> None:
        """Those there are now are expected from now on; what is lost stays expected."""
        if self.complaint is None:
            self._expected = frozenset(self._scheduler.gpus)

    async def ensure_known(self) -> None:
        """Return when it is known whether they work, and models are refused, or not, by that."""
        if not self._expected:
            return
        fault = await self._check(self._expected)
        complaint = None if fault is None else f"GPUs do not work since the machine slept: {fault}"
        if complaint == self.complaint:
            return
        self.complaint = complaint
        if complaint is None:
            _log.info("the GPUs work again")
        else:
            _log.error("%s", complaint)
        self._scheduler.lose_gpus(self._refusal())
        self._on_change(complaint)

    def _refusal(self) -> GpuUnusable | None:
        if self.complaint is None or not self._is_refusing:
            return None
        return GpuUnusable(
            self.complaint,
            hint="They are tried again every half minute. Restarting the machine, or its driver, "
            "may help; with host.without_lost_gpus models are loaded on what is left.",
        )
