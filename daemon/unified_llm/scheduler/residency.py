"""Carries models from state to state, with a deadline in each.

Rule 1: `change` alone writes a state; it is legal by the table, announced once, and ends the
    deadline of the state before.
Rule 2: QUEUED ends with its waiters, LOADING by a kill, DRAINING by a stop (or, for room, by being
    taken back), STOPPING by another kill, FAILED by the end of the failure window.
Rule 3: only a model without leases is stopped to make room.
"""

import logging
from collections.abc import Mapping
from itertools import count
from math import inf

from unified_llm.domain.devices import MemoryReading
from unified_llm.domain.errors import (
    InternalError,
    ModelFailedToLoad,
    UnifiedLlmError,
    UnknownModel,
    WorkerDied,
)
from unified_llm.domain.lifecycle import ModelState, may_become
from unified_llm.domain.models import ModelId
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Instant, Seconds, later, render_bytes
from unified_llm.planner.evict import Amounts
from unified_llm.scheduler.effects import Effects, Generation, LoadedModel
from unified_llm.scheduler.ledger import MemoryLedger, WorkerKey
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.state import DrainReason, ModelRecord, Replan
from unified_llm.scheduler.tickets import Tickets
from unified_llm.scheduler.timers import Timers

_log = logging.getLogger(__name__)


class Residency:
    """The models there are, and where each of them is.

    queued: those in QUEUED, in the order in which they entered it. working: those with a worker.
    idle_limit: longest time an idle model stays, pinned ones apart; None for its own keep-alive.
    """

    def __init__(
        self,
        effects: Effects,
        policy: SchedulingPolicy,
        timers: Timers,
        ledger: MemoryLedger,
        tickets: Tickets,
    ) -> None:
        self._effects = effects
        self._policy = policy
        self._timers = timers
        self._ledger = ledger
        self._tickets = tickets
        # One row of numbers for all models: one that vanishes and comes back must not repeat any.
        self._generations = count(1)
        self.records: dict[ModelId, ModelRecord] = {}
        self.queued: dict[ModelId, ModelRecord] = {}
        self.working: dict[ModelId, ModelRecord] = {}
        self.idle_limit: Seconds | None = None

    def change(self, record: ModelRecord, state: ModelState, now: Instant) -> None:
        """Enter `state` and announce it. Raises InternalError if the table forbids it."""
        if not may_become(record.state, state):
            raise InternalError(f"{record.id}: {record.state} to {state}")
        self.queued.pop(record.id, None)
        if state is ModelState.QUEUED:
            self.queued[record.id] = record
        self.working.pop(record.id, None)
        if state.has_worker:
            self.working[record.id] = record
        self._timers.clear(record.id)
        record.state, record.since = state, now
        record.progress = 0.0 if state is ModelState.LOADING else None
        if state is not ModelState.DRAINING:
            record.drain_reason = record.drain_until = None
        self._effects.announce(record.status())

    def attend(self, record: ModelRecord, now: Instant) -> None:
        """Do what the model's queue and leases call for in its present state."""
        match record.state:
            case ModelState.AVAILABLE | ModelState.FAILED if record.queue:
                self._enter_queued(record, now)
            case ModelState.QUEUED if not record.queue:
                self.change(record, ModelState.AVAILABLE, now)
            case ModelState.READY:
                self._tickets.grant_leases(record, now)
                if record.unloads and not record.leases and not record.queue:
                    self.stop(record, now)
                else:
                    self._watch_idleness(record)
            case ModelState.DRAINING if not record.leases:
                self.stop(record, now)

    def begin_load(self, record: ModelRecord, placement: Placement, now: Instant) -> None:
        """Start a worker; the memory for it has been found free."""
        record.generation = Generation(next(self._generations))
        record.placement, record.behind = placement, -inf
        self._ledger.hold(record.id, record.generation, placement.memory)
        self.change(record, ModelState.LOADING, now)
        deadline = later(now, self._policy.load_deadline)
        self._timers.set(record.id, deadline, lambda late: self._load_overdue(record, late))
        _log.info(
            "loading %s (generation %d) with %s",
            record.id,
            record.generation,
            render_amounts(placement.memory),
        )
        for sentence in placement.sacrifices:
            _log.warning("%s is not loaded as wished: %s", record.id, sentence)
        self._effects.begin_load(record.spec, record.generation, placement)

    def load_succeeded(self, record: ModelRecord, loaded: LoadedModel, now: Instant) -> None:
        """It serves."""
        record.loaded, record.last_error, record.replan = loaded, None, Replan.NONE
        record.cap = {}
        if record.placement is not None and not record.placement.sacrifices:
            record.is_displaced = False
        record.pace.load.see(now - record.since)
        record.last_used = now
        self._ledger.enlarge(record.id, record.generation, loaded.memory)
        self.change(record, ModelState.READY, now)
        self.attend(record, now)

    def load_failed(self, record: ModelRecord, error: UnifiedLlmError, now: Instant) -> None:
        """It does not serve: those who wait are told why, at once."""
        _log.warning("%s did not load: %s", record.id, error)
        record.note(error)
        record.replan, record.cap, record.is_displaced = Replan.NONE, {}, False
        record.backoff.failed(now)
        self._tickets.refuse_waiting(record, lambda: self.failure(record, now))
        self.await_end(record, now)

    def await_end(self, record: ModelRecord, now: Instant) -> None:
        """Enter STOPPING for a worker that is about to end by itself."""
        self.change(record, ModelState.STOPPING, now)
        self._watch_end(record, later(now, self._policy.stop_deadline))

    def stop(self, record: ModelRecord, now: Instant, *, grace: Seconds | None = None) -> None:
        """Tell the worker to go; leases still out are broken. grace: None for the policy's."""
        given = self._policy.stop_grace if grace is None else grace
        if record.leases:
            _log.warning("stopping %s with %d leases out", record.id, len(record.leases))
        else:
            _log.info("stopping %s", record.id)
        self.change(record, ModelState.STOPPING, now)
        self._watch_end(record, later(now, Seconds(given + self._policy.stop_deadline)))
        self._effects.begin_stop(record.id, record.generation, grace=given)

    def kill(self, record: ModelRecord, now: Instant) -> None:
        """End the model's worker at once, whatever it does."""
        if record.state is ModelState.STOPPING:
            self._effects.begin_stop(record.id, record.generation, grace=Seconds(0))
        else:
            self.stop(record, now, grace=Seconds(0))

    def send_away(
        self, record: ModelRecord, reason: DrainReason, now: Instant, grace: Seconds
    ) -> None:
        """Let the model finish what it has, for `grace` at most, and then stop it."""
        match record.state:
            case ModelState.LOADING:
                self.stop(record, now)
            case ModelState.READY | ModelState.DRAINING:
                self._drain(record, reason, now, later(now, grace))

    def take_back(self, record: ModelRecord, now: Instant) -> None:
        """Let a model that was to make room serve again."""
        _log.info("%s serves again: room is no longer wanted", record.id)
        self.change(record, ModelState.READY, now)
        self.attend(record, now)

    def worker_gone(self, record: ModelRecord, now: Instant) -> None:
        """Its process has been reaped; its memory may take a moment longer."""
        self._ledger.worker_gone(record.id, record.generation, now)
        key = (record.id, record.generation)
        limit = later(now, self._policy.memory_return_limit)
        self._timers.set(key, limit, lambda _: self._memory_overdue(*key))
        record.loaded = record.placement = None
        record.is_stuck = False
        self._tickets.end_leases(record)
        self.rest(record, now)
        self._tickets.grant_unloads(record)

    def memory_returned(self, model: ModelId, generation: Generation) -> None:
        """The main memory of a gone worker is free."""
        if self._ledger.ram_returned(model, generation):
            self._timers.clear((model, generation))

    def memory_read(self, reading: MemoryReading, workers: Mapping[WorkerKey, int]) -> None:
        """Believe a reading of all devices."""
        for key in self._ledger.observe(reading, workers):
            self._timers.clear(key)

    def rest(self, record: ModelRecord, now: Instant) -> None:
        """Bring a model without a worker to the state it should wait in."""
        if record.has_vanished or record.spec.identity is None:
            self._enter_absent(record, now)
        elif record.backoff.is_exhausted(now):
            self._enter_failed(record, now)
        elif record.queue:
            self._enter_queued(record, now)
        elif record.state is not ModelState.AVAILABLE:
            self.change(record, ModelState.AVAILABLE, now)

    def failure(self, record: ModelRecord, now: Instant) -> UnifiedLlmError:
        """What a caller is told of a model that does not load."""
        if record.spec.identity is None:
            fact = record.spec.defect or "its file is not there"
            return ModelFailedToLoad(f"{record.id} can not be loaded: {fact}.")
        hint = ""
        if record.backoff.is_exhausted(now):
            policy = self._policy
            hint = (
                f"It failed {policy.failures_before_failed} times within "
                f"{policy.failure_window:.0f} s; loading it by hand tries again now."
            )
        _, message = record.last_error or ("", f"{record.id} failed to load.")
        return ModelFailedToLoad(message, hint=hint, retry_after=record.backoff.remaining(now))

    def _enter_queued(self, record: ModelRecord, now: Instant) -> None:
        if record.state is not ModelState.QUEUED:
            self.change(record, ModelState.QUEUED, now)
        retry_at = record.backoff.retry_at
        if retry_at is not None and retry_at > now:
            # Nothing to do then: whatever woke the scheduler, it looks for loads to begin.
            self._timers.set(record.id, retry_at, lambda _: None)

    def _enter_absent(self, record: ModelRecord, now: Instant) -> None:
        if record.has_vanished:
            self._tickets.refuse_waiting(record, lambda: self.unknown(record.id))
            self.records.pop(record.id, None)
        else:
            self._tickets.refuse_waiting(record, lambda: self.failure(record, now))
        if record.state is ModelState.ABSENT:
            return
        if not may_become(record.state, ModelState.ABSENT):
            self.change(record, ModelState.AVAILABLE, now)
        self.change(record, ModelState.ABSENT, now)

    def _enter_failed(self, record: ModelRecord, now: Instant) -> None:
        self._tickets.refuse_waiting(record, lambda: self.failure(record, now))
        if record.state is ModelState.FAILED:
            return
        self.change(record, ModelState.FAILED, now)
        if record.backoff.retry_at is not None:
            self._timers.set(
                record.id, record.backoff.retry_at, lambda late: self.rest(record, late)
            )

    def unknown(self, model: ModelId, hint: str = "") -> UnknownModel:
        """What a caller is told of a model that is not in the catalogue."""
        return UnknownModel(f"There is no model {model!r}.", hint=hint)

    def _drain(
        self, record: ModelRecord, reason: DrainReason, now: Instant, until: Instant
    ) -> None:
        if not record.leases:
            self.stop(record, now)
            return
        if record.state is ModelState.READY:
            _log.info("draining %s (%s)", record.id, reason.name.lower())
            self.change(record, ModelState.DRAINING, now)
        elif record.drain_reason is not DrainReason.ROOM and record.drain_until is not None:
            until = min(until, record.drain_until)
        record.drain_reason, record.drain_until = reason, until
        self._timers.set(record.id, until, lambda late: self._drain_over(record, late))

    def _drain_over(self, record: ModelRecord, now: Instant) -> None:
        if record.drain_reason is DrainReason.ROOM:
            self.take_back(record, now)
        else:
            self.stop(record, now)

    def _watch_idleness(self, record: ModelRecord) -> None:
        keep_alive = self._keep_alive(record)
        if record.leases or keep_alive is None:
            self._timers.clear(record.id)
        else:
            due = later(record.last_used, keep_alive)
            self._timers.set(record.id, due, lambda late: self._stop_idle(record, late))

    def _keep_alive(self, record: ModelRecord) -> Seconds | None:
        own, limit = record.spec.keep_alive, self.idle_limit
        if limit is None or record.spec.pinned:
            return own
        return limit if own is None else min(own, limit)

    def _stop_idle(self, record: ModelRecord, now: Instant) -> None:
        record.is_displaced = False
        self.stop(record, now)

    def _watch_end(self, record: ModelRecord, deadline: Instant) -> None:
        self._timers.set(record.id, deadline, lambda late: self._stop_overdue(record, late))

    def _load_overdue(self, record: ModelRecord, now: Instant) -> None:
        limit = self._policy.load_deadline
        self.load_failed(
            record, ModelFailedToLoad(f"{record.id} did not load within {limit:.0f} s."), now
        )
        self._effects.begin_stop(record.id, record.generation, grace=Seconds(0))

    def _stop_overdue(self, record: ModelRecord, now: Instant) -> None:
        record.is_stuck = True
        record.note(
            WorkerDied(
                f"The worker of {record.id} was told to go {now - record.since:.0f} s ago and is "
                f"not gone; {render_amounts(self._ledger.held(record.id, record.generation))} "
                "are lost until it is."
            )
        )
        _log.error("%s", record.last_error)
        self._effects.announce(record.status())
        self._watch_end(record, later(now, self._policy.stop_deadline))
        self._effects.begin_stop(record.id, record.generation, grace=Seconds(0))

    def _memory_overdue(self, model: ModelId, generation: Generation) -> None:
        sizes = self._ledger.held(model, generation)
        _log.warning(
            "%s of %s (generation %d) were not seen to return within %.0f s",
            render_amounts(sizes),
            model,
            generation,
            self._policy.memory_return_limit,
        )
        self._ledger.release(model, generation)


def render_amounts(amounts: Amounts) -> str:
    """For people: `98.0 MiB of ram, 4.2 GiB of nvml:0000:01:00.0`; `nothing` if there is none."""
    return ", ".join(f"{render_bytes(size)} of {at}" for at, size in amounts.items()) or "nothing"
