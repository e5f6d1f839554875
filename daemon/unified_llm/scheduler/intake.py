"""Who may begin to wait for a model, and why others may not."""

from unified_llm.domain.errors import GpuUnusable, Inhibited, QueueFull, UnifiedLlmError
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import GpuUse
from unified_llm.domain.units import Instant
from unified_llm.scheduler import refusals
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.residency import Residency
from unified_llm.scheduler.state import ModelRecord
from unified_llm.scheduler.tickets import Tickets


class Intake:
    """is_closing: nobody may any more. loads_inhibited: what those are told who want a load.

    gpus_lost: what those are told whose model may be computed on GPUs; None while these work.
    """

    def __init__(self, policy: SchedulingPolicy, tickets: Tickets, residency: Residency) -> None:
        self._policy = policy
        self._tickets = tickets
        self._residency = residency
        self.is_closing = False
        self.loads_inhibited: Inhibited | None = None
        self.gpus_lost: GpuUnusable | None = None

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
        if self.gpus_lost is not None and self.is_barred(record):
            return refusals.lost(self.gpus_lost)
        retry_at = record.backoff.retry_at
        is_hopeless = retry_at is not None and retry_at > max(now, give_up_at)
        if not record.state.has_worker and (record.backoff.is_exhausted(now) or is_hopeless):
            return self._residency.failure(record, now)
        return None

    def is_barred(self, record: ModelRecord) -> bool:
        """Whether it is not loaded while GPUs are lost: it might be computed where nobody wants."""
        is_meant = record.spec.gpu is not GpuUse.OFF and not record.state.has_worker
        return self.gpus_lost is not None and is_meant

    @property
    def may_load_unasked(self) -> bool:
        """Whether what had to leave may come back by itself."""
        return not self.is_closing and self.gpus_lost is None

    def inhibit_loads(self, error: Inhibited | None, now: Instant) -> None:
        """Refuse with `error` from now on whoever wants a load; None to stop that."""
        self.loads_inhibited = error
        if error is None:
            return
        for record in tuple(self._residency.queued.values()):
            self._tickets.refuse_waiting(record, lambda: refusals.again(error))
            self._residency.attend(record, now)

    def refuse_barred(self, now: Instant) -> None:
        """While GPUs are lost, refuse those who wait for a model that may be computed on them.

        They may have begun before: by waiting, or for a load that failed since.
        """
        error = self.gpus_lost
        if error is None:
            return
        for record in tuple(self._residency.queued.values()):
            if self.is_barred(record):
                self._tickets.refuse_waiting(record, lambda: refusals.lost(error))
                self._residency.attend(record, now)

    def make_place_in_queue(self, record: ModelRecord, principal: str) -> QueueFull | None:
        """Why there is no place for one more; None if there is, or somebody had to give up one."""
        if len(record.queue) < self._policy.queue_limit:
            return None
        displaced = record.queue.displaced_by(principal)
        if displaced is None:
            return refusals.queue_full(record, self._policy)
        self._tickets.refuse(displaced.ticket, refusals.queue_full(record, self._policy))
        return None
