"""The callers' side: every ticket ends exactly once, as granted, refused or cancelled."""

from collections.abc import Callable

from unified_llm.domain.errors import RequestTimedOut, UnifiedLlmError
from unified_llm.domain.units import Instant, Seconds
from unified_llm.scheduler.effects import Effects, Ticket
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.queue import Waiter
from unified_llm.scheduler.state import ModelRecord
from unified_llm.scheduler.timers import Timers


class Tickets:
    """Knows where each ticket is: waiting in a queue, waiting for an unload, or out as a lease."""

    def __init__(self, effects: Effects, policy: SchedulingPolicy, timers: Timers) -> None:
        self._effects = effects
        self._policy = policy
        self._timers = timers
        self._at: dict[Ticket, ModelRecord] = {}

    def holder(self, ticket: Ticket) -> ModelRecord | None:
        """The model the ticket is about; None if it has ended."""
        return self._at.get(ticket)

    def enqueue(self, record: ModelRecord, waiter: Waiter, give_up_at: Instant) -> None:
        """Let it wait for a lease until `give_up_at`."""
        record.queue.add(waiter)
        self._await(record, waiter.ticket, waiter.since, give_up_at)

    def await_unload(
        self, record: ModelRecord, ticket: Ticket, now: Instant, give_up_at: Instant
    ) -> None:
        """Let it wait until the worker is gone or `give_up_at` has come."""
        record.unloads.append(ticket)
        self._await(record, ticket, now, give_up_at)

    def grant_leases(self, record: ModelRecord) -> None:
        """Serve as many waiters as there are free slots, and all who need none."""
        if record.serves:
            for waiter in record.queue:
                if not waiter.needs_slot:
                    self._grant_without_lease(record, waiter.ticket)
        while record.may_grant:
            ticket = record.queue.take().ticket
            self._timers.clear(ticket)
            if self._effects.grant(ticket, record.id, record.generation):
                record.leases.add(ticket)
            else:
                del self._at[ticket]

    def grant_unloads(self, record: ModelRecord) -> None:
        """Tell those who wait for it that the worker is gone."""
        for ticket in tuple(record.unloads):
            self._grant_without_lease(record, ticket)

    def end_leases(self, record: ModelRecord) -> None:
        """The worker is gone, so there is nothing left to hold."""
        for ticket in record.leases:
            del self._at[ticket]
        record.leases.clear()

    def refuse(self, ticket: Ticket, error: UnifiedLlmError) -> None:
        """End a ticket, whether it waits already or not."""
        self.forget(ticket)
        self._effects.refuse(ticket, error)

    def refuse_waiting(self, record: ModelRecord, error: Callable[[], UnifiedLlmError]) -> None:
        """Empty the queue. An error for each: an exception is not to be raised in two places."""
        for waiter in record.queue:
            self.refuse(waiter.ticket, error())

    def forget(self, ticket: Ticket) -> ModelRecord | None:
        """Take a ticket out wherever it is, and say of which model it was."""
        record = self._at.pop(ticket, None)
        self._timers.clear(ticket)
        if record is None:
            return None
        if ticket in record.leases:
            record.leases.discard(ticket)
        elif ticket in record.unloads:
            record.unloads.remove(ticket)
        else:
            record.queue.remove(ticket)
        return record

    def _grant_without_lease(self, record: ModelRecord, ticket: Ticket) -> None:
        self.forget(ticket)
        self._effects.grant(ticket, record.id, record.generation)

    def _await(
        self, record: ModelRecord, ticket: Ticket, since: Instant, give_up_at: Instant
    ) -> None:
        self._at[ticket] = record
        self._timers.set(ticket, give_up_at, lambda now: self._give_up(ticket, now - since))

    def _give_up(self, ticket: Ticket, waited: float) -> None:
        record = self._at[ticket]
        goal = "be gone" if ticket in record.unloads else "serve"
        self.refuse(
            ticket,
            RequestTimedOut(
                f"Waited {waited:.1f} s for {record.id} to {goal}: it is {record.state}, "
                f"with {len(record.leases)} requests being served and "
                f"{len(record.queue)} waiting.",
                hint="Try again later, or allow a longer wait.",
                retry_after=Seconds(self._policy.full_queue_retry),
            ),
        )
