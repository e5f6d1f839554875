"""The callers' side: every ticket ends exactly once, as granted, refused or cancelled."""

from collections.abc import Callable
from typing import Final

from unified_llm.domain.errors import RequestTimedOut, UnifiedLlmError
from unified_llm.domain.units import Instant
from unified_llm.scheduler import refusals
from unified_llm.scheduler.effects import Effects, Ticket
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.queue import Waiter
from unified_llm.scheduler.state import HeldLease, ModelRecord
from unified_llm.scheduler.timers import Timers

# Of the first leases of a model, in seconds; set right when they end.
_UNKNOWN_PRICE: Final = 1.0


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
        if record.has_idled:
            record.pace.gap.see(waiter.since - record.last_used)
            record.has_idled = False
        record.queue.add(waiter)
        self._await(record, waiter.ticket, waiter.since, give_up_at)

    def await_unload(
        self, record: ModelRecord, ticket: Ticket, now: Instant, give_up_at: Instant
    ) -> None:
        """Let it wait until the worker is gone or `give_up_at` has come."""
        record.unloads.append(ticket)
        self._await(record, ticket, now, give_up_at)

    def grant_leases(self, record: ModelRecord, now: Instant) -> None:
        """Serve as many waiters as there are free slots, and all who need none."""
        if record.serves:
            for waiter in record.queue:
                if not waiter.needs_slot:
                    self._grant_without_lease(record, waiter.ticket)
        while record.may_grant:
            price = record.pace.lease.value or _UNKNOWN_PRICE
            waiter = record.queue.take(price)
            self._timers.clear(waiter.ticket)
            if self._effects.grant(waiter.ticket, record.id, record.generation):
                record.leases[waiter.ticket] = HeldLease(waiter.principal, now, price)
            else:
                del self._at[waiter.ticket]
                record.queue.correct(waiter.principal, -price)

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

    def end_lease(self, ticket: Ticket, now: Instant) -> None:
        """The caller has done with it: what it took is known now. Harmless if it is no lease."""
        record = self._at.get(ticket)
        held = record.leases.get(ticket) if record else None
        if record is None or held is None:
            return
        took = now - held.since
        record.pace.lease.see(took)
        record.queue.correct(held.principal, took - held.price)
        self.forget(ticket)
        record.last_used = now
        record.has_idled = not record.leases and not record.queue

    def forget(self, ticket: Ticket) -> ModelRecord | None:
        """Take a ticket out wherever it waits, and say of which model it was."""
        record = self._at.pop(ticket, None)
        self._timers.clear(ticket)
        if record is None:
            return None
        if ticket in record.leases:
            del record.leases[ticket]
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
                retry_after=refusals.retry_after(record, self._policy),
            ),
        )
