"""What leaves memory although no model wants the room: idle models of a machine that is short.

Rule 1: only what is idle leaves, and never what is pinned.
Rule 2: nothing that leaves this way comes back before somebody asks for it.
"""

import logging

from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.units import Instant, Seconds
from unified_llm.scheduler.residency import Residency
from unified_llm.scheduler.state import ModelRecord

_log = logging.getLogger(__name__)


class Frugality:
    """Sends idle models away sooner than they would go."""

    def __init__(self, residency: Residency) -> None:
        self._residency = residency

    @property
    def holds(self) -> bool:
        """Whether nothing is loaded that nobody asks for."""
        return self._residency.idle_limit is not None

    def limit_idleness(self, limit: Seconds | None, now: Instant) -> None:
        """From now on idle models stay for at most `limit`; None for as long as their own."""
        self._residency.idle_limit = limit
        for record in tuple(self._residency.records.values()):
            self._residency.attend(record, now)

    def relieve(self, now: Instant) -> None:
        """Main memory is short: let one model go, of the lowest priority, idle for the longest."""
        idle = [each for each in self._residency.records.values() if _may_leave(each)]
        if idle:
            leaving = min(idle, key=lambda each: (each.spec.priority, each.last_used))
            _log.warning("%s leaves: the machine is short of main memory", leaving.id)
            self._residency.stop(leaving, now)


def _may_leave(record: ModelRecord) -> bool:
    return record.state is ModelState.READY and not record.leases and not record.spec.pinned
