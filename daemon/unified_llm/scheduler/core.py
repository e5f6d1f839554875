"""The scheduler's decisions: events and the time go in, effects come out.

Rule 1: no await, no clock, no lock; whoever calls, calls one event after the other.
Rule 2: every ticket ends in exactly one of granted, refused, cancelled.
Rule 3: each event changes what it is about, then `_settle` does whatever has become possible or
    due, so that no event has to know what it sets free.
Rule 4: a report about a worker that is not the present one is ignored.
"""

import logging
from collections.abc import Mapping

from unified_llm.domain.devices import RAM, DeviceId, MemoryReading
from unified_llm.domain.errors import GpuUnusable, Inhibited, UnifiedLlmError, WorkerDied
from unified_llm.domain.events import ModelStatus
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.units import Bytes, Instant, Seconds
from unified_llm.scheduler import refusals
from unified_llm.scheduler.backoff import Jitter
from unified_llm.scheduler.catalogue import Catalogue
from unified_llm.scheduler.effects import Effects, Generation, LoadedModel, LoadOutcome, Ticket
from unified_llm.scheduler.frugality import Frugality
from unified_llm.scheduler.intake import Intake
from unified_llm.scheduler.ledger import MemoryLedger, WorkerKey
from unified_llm.scheduler.occupancy import Occupancy
from unified_llm.scheduler.placing import Placer
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.pressure import Pressure
from unified_llm.scheduler.queue import Waiter
from unified_llm.scheduler.residency import Residency
from unified_llm.scheduler.room import Room
from unified_llm.scheduler.state import DrainReason, ModelRecord
from unified_llm.scheduler.suspension import Suspension
from unified_llm.scheduler.tickets import Tickets
from unified_llm.scheduler.timers import Timers

_log = logging.getLogger(__name__)


class Scheduler:
    """Who is loaded, served, queued or evicted. Each event returns at once."""

    def __init__(self, policy: SchedulingPolicy, effects: Effects, jitter: Jitter) -> None:
        self._policy = policy
        self._effects = effects
        self._timers = Timers()
        self._ledger = MemoryLedger(policy)
        self._tickets = Tickets(effects, policy, self._timers)
        self._residency = Residency(effects, policy, self._timers, self._ledger, self._tickets)
        self._suspension = Suspension(self._timers, self._residency)
        self._frugality = Frugality(self._residency)
        placer = Placer(self._ledger, policy.sacrifices)
        occupancy = Occupancy(self._ledger, self._residency)
        self._pressure = Pressure(effects, policy, self._ledger, self._residency, occupancy, placer)
        self.room = Room(
            policy,
            self._timers,
            self._ledger,
            self._tickets,
            self._residency,
            self._suspension,
            occupancy,
            placer,
        )
        self._intake = Intake(policy, self._tickets, self._residency)
        self._catalogue = Catalogue(
            effects, policy, self._tickets, self._residency, self.room, jitter
        )
        self._records = self._residency.records
        self._met: set[Ticket] = set()
        self._wake: Instant | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the daemon is closing and no worker is left."""
        return self._intake.is_closing and not any(
            record.state.has_worker for record in self._records.values()
        )

    @property
    def is_empty(self) -> bool:
        """Whether no worker is left and the memory of all has been seen free."""
        return self._ledger.is_empty and not any(
            record.state.has_worker for record in self._records.values()
        )

    @property
    def is_occupied(self) -> bool:
        """Whether a worker lives or somebody waits for one."""
        return (
            bool(self._residency.queued)
            or self._ledger.awaits_return
            or any(each.state.has_worker or each.is_displaced for each in self._records.values())
        )

    @property
    def memory_budget(self) -> Bytes:
        """Main memory that all models may take together."""
        return self._ledger.limit(RAM)

    @property
    def memory_committed(self) -> Bytes:
        """Main memory set aside for workers, those included whose memory is not seen free yet, and
        what is reserved for others."""
        return Bytes(self._ledger.committed() + self._ledger.reserved(RAM))

    def memory_held(self) -> dict[DeviceId, Bytes]:
        """What is set aside on each device; may be asked from any thread."""
        return self._ledger.held_by_device()

    def memory_free(self) -> dict[DeviceId, Bytes]:
        """What a load may take of each device that may be planned with, as things are."""
        return self._ledger.free()

    def memory_foreign(self) -> dict[DeviceId, Bytes]:
        """What other programs hold of each device of which that is known."""
        return self._ledger.foreign_by_device()

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Every model, by id."""
        return tuple(self._records[model].status() for model in sorted(self._records))

    def status(self, model: ModelId) -> ModelStatus:
        """One model. Raises UnknownModel."""
        record = self._records.get(model)
        if record is None:
            raise self._catalogue.unknown(model)
        return record.status()

    def catalogue(self, specs: Mapping[ModelId, ModelSpec], now: Instant) -> None:
        """These are all the models from now on; what has vanished is drained and stopped."""
        self._catalogue.replace(specs, now)
        self._settle(now)

    def requested(
        self,
        ticket: Ticket,
        model: ModelId,
        principal: str,
        give_up_at: Instant,
        now: Instant,
        *,
        by_hand: bool = False,
        needs_slot: bool = True,
    ) -> None:
        """A caller wants a lease. by_hand: a person asks, so past failures do not count.

        needs_slot: False if it wants the model loaded and nothing more; then no lease is counted.
        """
        record = self._records.get(model)
        before = record.state if record else None
        if self._intake.is_closing:
            self._tickets.refuse(ticket, refusals.closing())
        elif record is None or record.has_vanished:
            self._tickets.refuse(ticket, self._catalogue.unknown(model))
        else:
            if by_hand:
                record.backoff.forgive()
            error = self._intake.objection(record, give_up_at, now)
            if error is None and (needs_slot or not record.serves):
                error = self._intake.make_place_in_queue(record, principal)
            if error is not None:
                self._tickets.refuse(ticket, error)
            else:
                self._enqueue(record, Waiter(ticket, principal, now, needs_slot), give_up_at)
        if record is not None and record.state is before:
            self._keep_time(now)
        else:
            self._settle(now)

    def unload_asked(
        self,
        ticket: Ticket,
        model: ModelId,
        principal: str,
        give_up_at: Instant,
        now: Instant,
        *,
        is_patient: bool = False,
    ) -> None:
        """A caller wants the model out of memory; granted when its worker is gone.

        What is being served may end first, within the policy's grace. Requests that wait or come
        meanwhile stay, and are served by a new worker. is_patient: it leaves when nobody is being
        served or waits, however long that takes.
        """
        record = self._records.get(model)
        if record is None:
            self._tickets.refuse(ticket, self._catalogue.unknown(model))
        elif not record.state.has_worker:
            self._effects.grant(ticket, model, record.generation)
        else:
            _log.info("%s unloads %s", principal, model)
            record.is_displaced = False
            self._tickets.await_unload(record, ticket, now, give_up_at)
            if is_patient:
                self._residency.attend(record, now)
            else:
                self._residency.send_away(record, DrainReason.ASKED, now, self._policy.drain_grace)
        self._settle(now)

    def succession(self, model: ModelId, successor: ModelId | None, now: Instant) -> None:
        """If `successor` needs room, `model` is to make it before any other; None ends that."""
        record = self._records.get(model)
        if record is not None:
            record.successor = successor
        self._settle(now)

    def cancelled(self, ticket: Ticket, now: Instant) -> None:
        """The caller has gone, wherever its ticket was."""
        record = self._tickets.holder(ticket)
        self._tickets.end_lease(ticket, now)
        self._tickets.forget(ticket)
        if record is not None:
            record.last_used = now
            self._residency.attend(record, now)
            self._settle(now)

    def lease_returned(self, ticket: Ticket, now: Instant) -> None:
        """The caller has done with its lease."""
        self.cancelled(ticket, now)

    def load_progressed(
        self, model: ModelId, generation: Generation, fraction: float, now: Instant
    ) -> None:
        """The worker has read this part of the model. Announced by whole percents."""
        record = self._worker(model, generation)
        if record is None or record.state is not ModelState.LOADING:
            return
        percent = min(max(fraction, 0.0), 1.0) if fraction == fraction else 0.0
        percent = int(percent * 100) / 100
        if percent > (record.progress or 0.0):
            record.progress = percent
            self._effects.announce(record.status())
        self._settle(now)

    def load_finished(
        self, model: ModelId, generation: Generation, outcome: LoadOutcome, now: Instant
    ) -> None:
        """The worker serves, or says why not and is about to end."""
        record = self._worker(model, generation)
        if record is None or record.state is not ModelState.LOADING:
            return
        if isinstance(outcome, LoadedModel):
            self._residency.load_succeeded(record, outcome, now)
        else:
            self.room.load_failed(record, outcome, now)
        self._settle(now)

    def worker_died(
        self, model: ModelId, generation: Generation, error: UnifiedLlmError, now: Instant
    ) -> None:
        """The worker has ended, unasked, and is reaped."""
        record = self._worker(model, generation)
        if record is None:
            return
        if record.state is ModelState.LOADING:
            self.room.load_failed(record, error, now)
        elif record.state is not ModelState.STOPPING:
            _log.warning("the worker of %s died: %s", model, error)
            record.note(error)
            record.backoff.failed(now)
        self._residency.worker_gone(record, now)
        self._settle(now)

    def stop_finished(self, model: ModelId, generation: Generation, now: Instant) -> None:
        """The worker has ended, as asked, and is reaped."""
        record = self._worker(model, generation)
        if record is None:
            return
        if record.state is not ModelState.STOPPING:
            unasked = WorkerDied(f"The worker of {model} ended without having been asked to.")
            self.worker_died(model, generation, unasked, now)
            return
        self._residency.worker_gone(record, now)
        self._settle(now)

    def memory_returned(self, model: ModelId, generation: Generation, now: Instant) -> None:
        """No main memory is held any more for a worker that is gone."""
        self._residency.memory_returned(model, generation)
        self._settle(now)

    def memory_read(
        self, reading: MemoryReading, workers: Mapping[WorkerKey, int], now: Instant
    ) -> None:
        """The machine's memory is this. workers: the process of each that lives."""
        self._residency.memory_read(reading, workers)
        self._settle(now)

    def objection_to_reserving(self, size: Bytes) -> UnifiedLlmError | None:
        """Why `size` can not be reserved; None if it can."""
        is_closing = self._intake.is_closing
        return refusals.closing() if is_closing else self._pressure.objection_to_reserving(size)

    def reserved(self, ticket: Ticket, size: Bytes, now: Instant) -> None:
        """Somebody who is no model takes `size`; models leave until it is free."""
        self._ledger.reserve(ticket, size)
        self._settle(now)

    def unreserved(self, ticket: Ticket, now: Instant) -> None:
        """What was reserved under `ticket` is for models again."""
        self._ledger.unreserve(ticket)
        self._met.discard(ticket)
        self._settle(now)

    def inhibited(
        self, loads: Inhibited | None, now: Instant, *, are_evictions_inhibited: bool
    ) -> None:
        """From now on: loads is what those are told who want a load; None if loads are allowed."""
        self._intake.inhibit_loads(loads, now)
        self.room.are_loads_inhibited = loads is not None
        self.room.are_evictions_inhibited = are_evictions_inhibited
        self._pressure.are_inhibited = are_evictions_inhibited
        self._settle(now)

    def woke(self, now: Instant) -> None:
        """The moment asked for with `wake_at` has come."""
        self._wake = None
        self._settle(now)

    def closing(self, grace: Seconds, now: Instant) -> None:
        """Refuse all that wait, let leases end for `grace`, then stop every worker."""
        self._intake.is_closing = True
        for record in tuple(self._records.values()):
            self._tickets.refuse_waiting(record, refusals.closing)
            self._residency.attend(record, now)
            self._residency.send_away(record, DrainReason.CLOSING, now, grace)
        self._settle(now)

    def suspended(self, limit: Seconds, now: Instant) -> frozenset[ModelId]:
        """Empty the memory within `limit` and load nothing until `resumed`. Returns what served."""
        served = self._suspension.begin(limit, now)
        self._settle(now)
        return served

    def resumed(self, now: Instant) -> None:
        """Models may be loaded again."""
        self._suspension.end()
        self._settle(now)

    def gpus_lost(self, error: GpuUnusable | None, now: Instant) -> None:
        """From now on: error is what those are told whose model would go to a GPU; None when GPUs
        work again. Nothing falls back to main memory unseen."""
        self._intake.gpus_lost = error
        if error is None:
            self._ledger.enable_gpus()
        self._settle(now)

    def idleness_limited(self, limit: Seconds | None, now: Instant) -> None:
        """Idle models stay for at most `limit` from now on, and what had to make way stays away;
        None for neither."""
        self._frugality.limit_idleness(limit, now)
        self._settle(now)

    def memory_short(self, now: Instant) -> None:
        """The kernel tells that programs wait for main memory."""
        self._frugality.relieve(now)
        self._settle(now)

    def _settle(self, now: Instant) -> None:
        self._timers.run_due(now)
        self._intake.refuse_barred(now)
        self._pressure.make_way_for_reservations(now)
        self._pressure.make_way_for_others(now)
        is_free = self._intake.may_load_unasked and not self._frugality.holds
        if self.room.make(now) and is_free:
            self._pressure.bring_back_displaced(now)
        for ticket in self._ledger.met():
            if ticket not in self._met:
                self._met.add(ticket)
                self._effects.reservation_met(ticket)
        self._ask_to_wake()

    def _keep_time(self, now: Instant) -> None:
        """As `_settle`, for what makes nothing possible: who joins a queue changes no memory."""
        due = self._timers.next()
        if due is not None and due <= now:
            self._settle(now)
        else:
            self._ask_to_wake()

    def _ask_to_wake(self) -> None:
        wake = self._timers.next()
        if wake != self._wake:
            self._wake = wake
            self._effects.wake_at(wake)

    def _enqueue(self, record: ModelRecord, waiter: Waiter, give_up_at: Instant) -> None:
        if not waiter.needs_slot:
            record.last_used = waiter.since
        self._tickets.enqueue(record, waiter, give_up_at)
        self._residency.attend(record, waiter.since)

    def _worker(self, model: ModelId, generation: Generation) -> ModelRecord | None:
        record = self._records.get(model)
        return record if record is not None and record.runs(generation) else None
