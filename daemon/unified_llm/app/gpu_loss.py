"""GPUs that were there and do not work: told at every door, and no model falls to the CPU.

Rule 1: a GPU that a reading does not show any more is lost at once, so that nothing is loaded
    elsewhere meanwhile. Whether it works after all is found out by a trial, which is then due.
Rule 2: a GPU works again when a trial says so, and a reading shows it.
Rule 3: models that are loaded on it stay until their workers fail: a driver that is replaced under
    running programs answers nobody new, and these go on.
"""

import logging
from collections.abc import Awaitable, Callable, Collection

from unified_llm.domain.devices import RAM, DeviceId, MemoryReading
from unified_llm.domain.errors import GpuUnusable
from unified_llm.scheduler.loop import SchedulerLoop

_log = logging.getLogger(__name__)

Check = Callable[[Collection[DeviceId]], Awaitable[str | None]]
"""Why GPUs of those do not work, in a sentence; None if all do. hardware.gpu_check is one."""


class GpuLoss:
    """Remembers which GPUs there were, and has them tried.

    read: takes a reading, which comes to `on_reading` before it returns. is_refusing: whether
    models that may be computed on GPUs are refused while one is lost, and not loaded without it.
    on_change: told why GPUs do not work, or None if they do. on_due: a trial is due. Both return
    at once.
    """

    def __init__(
        self,
        scheduler: SchedulerLoop,
        check: Check,
        read: Callable[[], Awaitable[MemoryReading]],
        *,
        is_refusing: bool,
        on_change: Callable[[str | None], None],
    ) -> None:
        self._scheduler = scheduler
        self._check = check
        self._read = read
        self._is_refusing = is_refusing
        self._on_change = on_change
        self._expected: frozenset[DeviceId] = frozenset()
        self._missing: frozenset[DeviceId] = frozenset()
        self._is_trying = False
        self._since = ""
        self.complaint: str | None = None
        self.on_due: Callable[[], None] = lambda: None

    def on_reading(self, reading: MemoryReading) -> None:
        """Expect what it shows from now on; what it does not show any more is lost.

        Called before the scheduler takes it, which would plan without what is missing.
        """
        shown = frozenset(device.id for device in reading.devices if device.id != RAM)
        self._expected |= shown
        before, self._missing = self._missing, self._expected - shown
        if self._is_trying or self._missing == before:
            return
        if self._missing and self.complaint is None:
            self._since = ""
            self._judge(" ".join((self._unseen(), *reading.faults)))
        if self.complaint is not None:
            self.on_due()

    async def ensure_known(self, since: str | None = None) -> None:
        """Return when it is known whether they work, and models are refused, or not, by that.

        since: what they may have been lost by; None if nothing is known to have happened.
        """
        if not self._expected:
            return
        if since is not None:
            self._since = f" since {since}"
        self._is_trying = True
        try:
            fault = await self._check(self._expected)
            if fault is None:
                await self._read()
                fault = self._unseen() if self._missing else None
        finally:
            self._is_trying = False
        self._judge(fault)

    def _unseen(self) -> str:
        return f"No driver shows {', '.join(sorted(self._missing))} any more."

    def _judge(self, fault: str | None) -> None:
        complaint = None if fault is None else f"GPUs do not work{self._since}: {fault}"
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
            "may help; restart the daemon if a GPU was taken out for good. With "
            "host.without_lost_gpus models are loaded on what is left.",
        )
