"""Empties the memory within a time limit, and keeps it empty until told otherwise.

Rule 1: half of the time is for running answers to end, a quarter for workers to go by themselves;
    then they are killed, so that the last quarter sees their memory returned.
Rule 2: who waits for a model goes on waiting, within the limits on waiting.
"""

import logging

from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.scheduler.residency import Residency
from unified_llm.scheduler.state import DrainReason
from unified_llm.scheduler.timers import Timers

_KILL = "suspension"
_log = logging.getLogger(__name__)


class Suspension:
    """holds: whether nothing may be loaded."""

    def __init__(self, timers: Timers, residency: Residency) -> None:
        self._timers = timers
        self._residency = residency
        self.holds = False

    def begin(self, limit: Seconds, now: Instant) -> frozenset[ModelId]:
        """Send everything away within `limit`. Returns the models that served."""
        self.holds = True
        served = set()
        for record in tuple(self._residency.records.values()):
            if record.state in {ModelState.READY, ModelState.DRAINING}:
                served.add(record.id)
            self._residency.send_away(record, DrainReason.SUSPENDED, now, Seconds(limit / 2))
        self._timers.set(_KILL, later(now, Seconds(limit * 3 / 4)), self._kill)
        return frozenset(served)

    def end(self) -> None:
        """Models may be loaded again."""
        self.holds = False
        self._timers.clear(_KILL)

    def _kill(self, now: Instant) -> None:
        for record in tuple(self._residency.records.values()):
            if record.state.has_worker:
                _log.warning("%s is still there and is killed", record.id)
                self._residency.kill(record, now)
