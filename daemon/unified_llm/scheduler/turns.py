"""How long a resident keeps its place although another waits for it.

Rule 1: what is in use keeps its place for a turn, however many wait for others; then it drains.
Rule 2: a turn is so long that loading takes no more than a set share of the time; else two models
    that are both in demand would be loaded more than they serve.
Rule 3: what lies idle for a moment, between one request of a conversation and the next, counts as
    in use if it is usually wanted again sooner than it could be reloaded; it is not waited for
    longer than twice as long as usual.
"""

from typing import Final

from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.state import ModelRecord

_LATE: Final = 2.0


class Turns:
    """Reckons with what was measured of each model."""

    def __init__(self, policy: SchedulingPolicy) -> None:
        self._policy = policy

    def ends(self, resident: ModelRecord, waiting: ModelRecord) -> Instant:
        """When `resident` must make room for `waiting` although it is in use."""
        served = later(resident.since, self._length(resident))
        return max(served, later(waiting.since, self._policy.turn))

    def expected_until(self, resident: ModelRecord, waiting: ModelRecord) -> Instant:
        """Until when an idle `resident` counts as in use; the past if it does not."""
        gap = resident.pace.gap.value
        if gap is None or not resident.pace.is_soon_wanted or resident.successor == waiting.id:
            return resident.last_used
        return later(resident.last_used, Seconds(_LATE * gap))

    def next_chance(self, resident: ModelRecord, waiting: ModelRecord) -> Instant:
        """When `resident` may be sent away at the latest, if nobody asks for it meanwhile."""
        end = self.ends(resident, waiting)
        return end if resident.leases else min(end, self.expected_until(resident, waiting))

    def _length(self, resident: ModelRecord) -> Seconds:
        policy = self._policy
        load = resident.pace.load.value or 0.0
        worthwhile = load * (1 - policy.swap_share) / policy.swap_share
        return Seconds(max(policy.turn, min(worthwhile, policy.ageing)))
