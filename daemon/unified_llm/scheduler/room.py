"""Finds room for the models that wait to be loaded.

Rule 1: models are loaded in the order in which they began to wait, put forward by their priority as
    if they had waited longer, by `ageing` at most. The first that can not even be promised room
    holds up all behind it: small models that slip past would starve a large one.
    Who was sent away for another comes behind it, whatever their priorities: it would only be
    loaded again, and sent away again a turn later.
Rule 2: what is promised is not yet there; a load begins when the memory is free.
Rule 3: a model in use keeps its place for its turn; then it drains.
Rule 4: what others than models need comes first; `pressure` sees to it.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

from unified_llm.domain.arrival import Arrival
from unified_llm.domain.devices import RAM, DeviceId
from unified_llm.domain.errors import GpuUnusable, NoRoom, UnifiedLlmError
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import GpuUse, ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Instant, Seconds
from unified_llm.planner.evict import choose_victims
from unified_llm.scheduler import refusals
from unified_llm.scheduler.ledger import MemoryLedger
from unified_llm.scheduler.occupancy import Occupancy, is_idle, leaves, must_stay, stays
from unified_llm.scheduler.placing import Placer
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.residency import Residency, render_amounts
from unified_llm.scheduler.state import DrainReason, ModelRecord, Replan
from unified_llm.scheduler.suspension import Suspension
from unified_llm.scheduler.tickets import Tickets
from unified_llm.scheduler.timers import Timers
from unified_llm.scheduler.turns import Turns

_log = logging.getLogger(__name__)

_TURN = "turn"
# Of what the load that ran out of memory was given.
_SHRUNK: Final = 0.75


class Room:
    """Begins loads, and sends models away for them."""

    def __init__(
        self,
        policy: SchedulingPolicy,
        timers: Timers,
        ledger: MemoryLedger,
        tickets: Tickets,
        residency: Residency,
        suspension: Suspension,
        occupancy: Occupancy,
        placer: Placer,
    ) -> None:
        self._policy = policy
        self._timers = timers
        self._ledger = ledger
        self._tickets = tickets
        self._residency = residency
        self._suspension = suspension
        self._occupancy = occupancy
        self._placer = placer
        self._turns = Turns(policy)
        # Those that are known to fit if all leave that may, and into what that was reckoned.
        self._budgets: dict[DeviceId, Bytes] = {}
        self._fitting: dict[ModelId, tuple[ModelSpec, object]] = {}
        self.are_loads_inhibited = False
        self.are_evictions_inhibited = False

    def make(self, now: Instant) -> bool:
        """Begin every load whose time has come; make room for the others.

        True if nobody waits for memory any more.
        """
        self._timers.clear((_TURN,))
        self._refuse_what_can_not_fit(now)
        if self.are_loads_inhibited or self._suspension.holds:
            return False
        promised = self._occupancy.left(stays)
        is_waiting = False
        for record in sorted(self._residency.queued.values(), key=self._place_in_line):
            if not record.backoff.may_retry(now):
                continue
            placement = self._promise(record, promised, now)
            if placement is None:
                is_waiting = True
                break
            if self._ledger.has_room(placement.memory) and not self._must_wait(record):
                self._residency.begin_load(record, placement, now)
            else:
                is_waiting = True
        if not is_waiting:
            self._take_back_drains(now)
        return not is_waiting

    def load_failed(self, record: ModelRecord, error: UnifiedLlmError, now: Instant) -> None:
        """What becomes of a load that failed: another try without what failed, or a refusal."""
        if isinstance(error, GpuUnusable) and record.spec.gpu is not GpuUse.REQUIRED:
            self._ledger.disable_gpus(error.message)
            record.note(error)
            _log.warning("no GPU is used from now on: %s", error)
            self._residency.await_end(record, now)
        elif not isinstance(error, NoRoom):
            self._residency.load_failed(record, error, now)
        elif self._replan(record, now):
            record.note(error)
            _log.info("%s ran out of memory; one more try, %s", record.id, record.replan.name)
            self._residency.await_end(record, now)
        else:
            held = render_amounts(self._ledger.held(record.id, record.generation))
            self._tickets.refuse_waiting(
                record, lambda: refusals.out_of_memory(record, held, error)
            )
            self._residency.load_failed(record, error, now)

    def forecast(self, model: ModelId, now: Instant) -> Arrival:
        """What a load of `model` would take; asked for comparison, and changes nothing.

        Models in use count as leaving: their turn ends. A model that serves takes nothing.
        """
        record = self._residency.records[model]
        if record.state is ModelState.READY:
            return Arrival(Seconds(0), ())
        load = record.pace.load.value
        if record.state is ModelState.LOADING:
            left = None if load is None else Seconds(max(0.0, load - (now - record.since)))
            return Arrival(left, ())
        return Arrival(None if load is None else Seconds(load), self._leaving_for(record, now))

    def _leaving_for(self, record: ModelRecord, now: Instant) -> tuple[ModelId, ...] | None:
        best, free = self._best(record), self._occupancy.left(stays)
        if isinstance(best, NoRoom):
            return None
        as_it_is = self._placer.place(record.spec, free, record.cap)
        if not isinstance(as_it_is, NoRoom) and as_it_is.quality == best.quality:
            return ()
        if self.are_evictions_inhibited:
            return None
        residents = self._occupancy.residents(
            has_had_its_turn=lambda each: True, is_expected=lambda each: False, successor=record.id
        )
        return choose_victims(best.memory, free, residents, self._policy.eviction, now)

    def forget(self, model: ModelId) -> None:
        """The model has left the catalogue."""
        self._placer.forget(model)
        self._fitting.pop(model, None)

    def _replan(self, record: ModelRecord, now: Instant) -> bool:
        """Prepare one more try after a load ran out of memory; False if there was one already."""
        if record.replan is not Replan.NONE:
            return False
        idle = [each for each in self._residency.working.values() if is_idle(each)]
        if idle:
            record.replan = Replan.ALONE
            for each in idle:
                self._residency.stop(each, now)
        elif record.placement is not None:
            cap = _shrunk(record.placement)
            budgets = self._occupancy.left(must_stay)
            if isinstance(self._placer.place(record.spec, budgets, cap), Placement):
                record.replan, record.cap = Replan.SMALLER, cap
        return record.replan is not Replan.NONE

    def _best(self, record: ModelRecord) -> Placement | NoRoom:
        """What it would be given if all left that may."""
        return self._placer.place(record.spec, self._occupancy.left(must_stay), record.cap)

    def _refuse_what_can_not_fit(self, now: Instant) -> None:
        budgets = self._occupancy.left(must_stay)
        if budgets != self._budgets:
            self._budgets, self._fitting = budgets, {}
        for record in tuple(self._residency.queued.values()):
            question = (record.spec, record.cap or None)
            if self._fitting.get(record.id) != question:
                best = self._placer.place(record.spec, budgets, record.cap)
                if isinstance(best, NoRoom):
                    self._tickets.refuse_waiting(record, partial(self._no_room, record, best))
                else:
                    self._fitting[record.id] = question
            if not record.queue:
                self._residency.attend(record, now)

    def _no_room(self, record: ModelRecord, refusal: NoRoom) -> NoRoom:
        """The planner's numbers, and what they leave out."""
        kept = self._occupancy.held_by(must_stay)
        promised = {
            device: reserved
            for device in self._ledger.limits()
            if (reserved := self._ledger.reserved(device))
        }
        taken = {
            device: foreign
            for device in self._ledger.limits()
            if (foreign := self._ledger.foreign(device))
        }
        parts = [f"{record.id} does not fit. {refusal.message}"]
        if kept:
            parts.append(f"Models that must stay hold {render_amounts(kept)}.")
        if promised:
            parts.append(f"Programs have reserved {render_amounts(promised)}.")
        if taken:
            parts.append(f"Other programs hold {render_amounts(taken)}.")
        return NoRoom(" ".join(parts), hint=refusal.hint)

    def _promise(
        self, record: ModelRecord, promised: dict[DeviceId, Bytes], now: Instant
    ) -> Placement | None:
        """Where it will go, taken out of `promised`; None if there is not enough for it yet.

        Nobody is sent away for what others have left as good as empty.
        """
        best = self._best(record)
        if isinstance(best, NoRoom):
            return None
        placement = self._placer.place(record.spec, promised, record.cap)
        if isinstance(placement, NoRoom) or placement.quality != best.quality:
            placement = best
            victims = self._victims(record, best, promised, now)
            if victims is None:
                self._watch_turns(record, now)
                return None
            for victim in victims:
                leaving = self._residency.records[victim]
                for device, size in self._ledger.held(victim, leaving.generation).items():
                    promised[device] = Bytes(promised.get(device, 0) + size)
                leaving.behind = self._place_in_line(record)
                self._residency.send_away(leaving, DrainReason.ROOM, now, self._policy.drain_grace)
        for device, size in placement.memory.items():
            promised[device] = Bytes(promised[device] - size)
        return placement

    def _place_in_line(self, record: ModelRecord) -> float:
        """Ageing without reckoning again as time goes by: all waits grow alike."""
        place = record.since - self._policy.ageing * record.spec.priority / 100
        return max(place, record.behind)

    def _must_wait(self, record: ModelRecord) -> bool:
        # The load before ran out of memory although the ledger had enough, so this time it waits
        # until all that leave have left.
        return record.replan is not Replan.NONE and (
            self._ledger.awaits_return or any(map(leaves, self._residency.working.values()))
        )

    def _victims(
        self,
        record: ModelRecord,
        placement: Placement,
        promised: Mapping[DeviceId, Bytes],
        now: Instant,
    ) -> tuple[ModelId, ...] | None:
        if self.are_evictions_inhibited:
            return None
        residents = self._occupancy.residents(
            has_had_its_turn=lambda each: self._turns.ends(each, record) <= now,
            is_expected=lambda each: self._turns.expected_until(each, record) > now,
            successor=record.id,
        )
        return choose_victims(placement.memory, promised, residents, self._policy.eviction, now)

    def _watch_turns(self, waiting: ModelRecord, now: Instant) -> None:
        ends = [
            self._turns.next_chance(each, waiting)
            for each in self._residency.working.values()
            if each.state is ModelState.READY and not each.spec.pinned
        ]
        next_end = min((end for end in ends if end > now), default=None)
        if next_end is not None:
            self._timers.set((_TURN,), next_end, lambda _: None)

    def _take_back_drains(self, now: Instant) -> None:
        for record in tuple(self._residency.working.values()):
            if record.drain_reason is DrainReason.ROOM:
                self._residency.take_back(record, now)


def _shrunk(placement: Placement) -> dict[DeviceId, Bytes]:
    """Less of each GPU; of main memory only if there was no GPU, for what leaves one goes there."""
    gpus = placement.memory.keys() - {RAM}
    return {
        device: Bytes(int(size * _SHRUNK))
        for device, size in placement.memory.items()
        if device in gpus or not gpus
    }
