"""Who may begin to wait for a model, and why others may not."""

from unified_llm.domain.errors import Inhibited, QueueFull, UnifiedLlmError
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.units import Instant
from unified_llm.scheduler import refusals
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.residency import Residency
from unified_llm.scheduler.state import ModelRecord
from unified_llm.scheduler.tickets import Tickets


class Intake:
    """is_closing: nobody may any more. loads_inhibited: what those are told who want a load."""

    def __init__(self, policy: SchedulingPolicy, tickets: Tickets, residency: Residency) -> None:
        self._policy = policy
        self._tickets = tickets
        self._residency = residency
        self.is_closing = False
        self.loads_inhibited: Inhibited | None = None

    def objection(
        self, record: ModelRecord, give_up_at: Instant, now: Instant
    ) -> UnifiedLlmError | None:
        """Why waiting for the model is in vain; None if it is not."""
        if record.state is ModelState.ABSENT or (
            record.spec.identity is None and not record.state.has_worker
        ):
            return self._residency.failure(record, now)
        if self.loads_inhibited is not None and not record.state.has_worker:
            return refusals.again(self.loads_inhibited)
        retry_at = record.backoff.retry_at
        is_hopeless = retry_at is not None and retry_at > max(now, give_up_at)
        if not record.state.has_worker and (record.backoff.is_exhausted(now) or is_hopeless):
            return self._residency.failure(record, now)
        return None

    def make_place_in_queue(self, record: ModelRecord, principal: str) -> QueueFull | None:
        """Why there is no place for one more; None if there is, or somebody had to give up one."""
        if len(record.queue) < self._policy.queue_limit:
            return None
        displaced = record.queue.displaced_by(principal)
        if displaced is None:
            return refusals.queue_full(record, self._policy)
        self._tickets.refuse(displaced.ticket, refusals.queue_full(record, self._policy))
        return None
