"""Finds room for the models that wait to be loaded.

Rule 1: models are loaded in the order in which they began to wait. The first that can not even be
    promised room holds up all behind it: small models that slip past would starve a large one.
Rule 2: what is promised is not yet there; a load begins when the memory is free.
Rule 3: a model in use keeps its place for a turn, however many wait for others; then it drains.
Rule 4: what is reserved for others than models comes first, and waits for nobody's turn.
"""

from collections.abc import Callable
from functools import partial

from unified_llm.domain.errors import NoRoom
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Instant, later, render_bytes
from unified_llm.planner.evict import Resident, choose_victims
from unified_llm.scheduler.ledger import MemoryLedger
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.residency import Residency
from unified_llm.scheduler.state import DrainReason, ModelRecord, Replan
from unified_llm.scheduler.suspension import Suspension
from unified_llm.scheduler.tickets import Tickets
from unified_llm.scheduler.timers import Timers

_TURN = "turn"
_STAYING = frozenset({ModelState.LOADING, ModelState.READY})


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
    ) -> None:
        self._policy = policy
        self._timers = timers
        self._ledger = ledger
        self._tickets = tickets
        self._residency = residency
        self._suspension = suspension
        self.are_loads_inhibited = False
        self.are_evictions_inhibited = False

    def make(self, now: Instant) -> None:
        """Begin every load whose time has come; make room for the others."""
        self._timers.clear((_TURN,))
        self._make_way_for_reservations(now)
        self._refuse_what_can_not_fit(now)
        if self.are_loads_inhibited or self._suspension.holds:
            return
        promised = Bytes(self._ledger.available - self._held_by(_stays))
        is_waiting = False
        for record in tuple(self._residency.queued.values()):
            if not record.backoff.may_retry(now):
                continue
            left = self._promise(record, promised, now)
            if left is None:
                is_waiting = True
                break
            promised = left
            if record.spec.memory_bytes <= self._ledger.free and not self._must_wait(record):
                self._residency.begin_load(record, now)
            else:
                is_waiting = True
        if not is_waiting:
            self._take_back_drains(now)

    def replan(self, record: ModelRecord, now: Instant) -> bool:
        """Prepare one more try after a load ran out of memory; False if there was one already."""
        if record.replan is not Replan.NONE:
            return False
        idle = [each for each in self._residency.records.values() if _is_idle(each)]
        if idle:
            record.replan = Replan.ALONE
            for each in idle:
                self._residency.stop(each, now)
        elif record.spec.slots > 1:
            record.replan = Replan.SMALLER
        return record.replan is not Replan.NONE

    def no_room(self, record: ModelRecord) -> NoRoom:
        """Why the model does not fit, with the numbers."""
        return NoRoom(
            f"{record.id} needs {render_bytes(record.spec.memory_bytes)}; {self._limits()}.",
            hint="Ask for less context or fewer slots, unpin a model, or raise the memory budget.",
        )

    def objection_to_reserving(self, size: Bytes) -> NoRoom | None:
        """Why `size` can not be reserved, with the numbers; None if it can."""
        if size <= self._most():
            return None
        return NoRoom(
            f"{render_bytes(size)} can not be reserved; {self._limits()}.",
            hint="Reserve less, unpin a model, or raise the memory budget.",
        )

    def _most(self) -> Bytes:
        """What there would be if everything that may leave had left."""
        return Bytes(self._ledger.available - self._held_by(_must_stay))

    def _limits(self) -> str:
        ledger = self._ledger
        kept = self._held_by(_must_stay)
        text = (
            f"the budget is {render_bytes(ledger.budget)}, {render_bytes(kept)} of it held by "
            "models that must stay"
        )
        reserved = ledger.reserved
        return f"{text} and {render_bytes(reserved)} reserved by programs" if reserved else text

    def _make_way_for_reservations(self, now: Instant) -> None:
        free = Bytes(self._ledger.available - self._held_by(_stays))
        if not self._ledger.reserved or free >= 0 or self.are_evictions_inhibited:
            return
        residents = self._residents(lambda _: True)
        victims = choose_victims(Bytes(0), free, residents)
        if victims is None:
            victims = tuple(each.model for each in residents if each.may_leave)
        for victim in victims:
            leaving = self._residency.records[victim]
            self._residency.send_away(leaving, DrainReason.RESERVED, now, self._policy.drain_grace)

    def _refuse_what_can_not_fit(self, now: Instant) -> None:
        most = self._most()
        for record in tuple(self._residency.queued.values()):
            if record.spec.memory_bytes > most:
                self._tickets.refuse_waiting(record, partial(self.no_room, record))
            if not record.queue:
                self._residency.attend(record, now)

    def _promise(self, record: ModelRecord, promised: Bytes, now: Instant) -> Bytes | None:
        """What is left to promise to others; None if there is not enough for this one."""
        need = record.spec.memory_bytes
        if need > promised:
            victims = self._victims(record, promised, now)
            if victims is None:
                self._watch_turns(record, now)
                return None
            for victim in victims:
                leaving = self._residency.records[victim]
                promised = Bytes(promised + self._ledger.held(victim, leaving.generation))
                self._residency.send_away(leaving, DrainReason.ROOM, now, self._policy.drain_grace)
        return Bytes(promised - need)

    def _must_wait(self, record: ModelRecord) -> bool:
        # The load before ran out of memory although the ledger had enough, so this time it waits
        # until all that leave have left.
        return record.replan is not Replan.NONE and (
            self._ledger.awaits_return or any(map(_leaves, self._residency.records.values()))
        )

    def _victims(
        self, record: ModelRecord, promised: Bytes, now: Instant
    ) -> tuple[ModelId, ...] | None:
        if self.are_evictions_inhibited:
            return None
        residents = self._residents(lambda each: self._turn_ends(each, record) <= now)
        return choose_victims(record.spec.memory_bytes, promised, residents)

    def _residents(self, has_had_its_turn: Callable[[ModelRecord], bool]) -> list[Resident]:
        return [
            Resident(
                model=each.id,
                memory_bytes=self._ledger.held(each.id, each.generation),
                pinned=each.spec.pinned,
                is_loading=each.state is ModelState.LOADING,
                leases=len(each.leases),
                idle_since=each.last_used,
                has_had_its_turn=has_had_its_turn(each),
            )
            for each in self._residency.records.values()
            if each.state in _STAYING
        ]

    def _turn_ends(self, resident: ModelRecord, waiting: ModelRecord) -> Instant:
        return later(max(resident.since, waiting.since), self._policy.turn)

    def _watch_turns(self, waiting: ModelRecord, now: Instant) -> None:
        ends = [
            self._turn_ends(each, waiting)
            for each in self._residency.records.values()
            if each.state is ModelState.READY and not each.spec.pinned
        ]
        next_end = min((end for end in ends if end > now), default=None)
        if next_end is not None:
            self._timers.set((_TURN,), next_end, lambda _: None)

    def _take_back_drains(self, now: Instant) -> None:
        for record in tuple(self._residency.records.values()):
            if record.drain_reason is DrainReason.ROOM:
                self._residency.take_back(record, now)

    def _held_by(self, is_meant: Callable[[ModelRecord], bool]) -> Bytes:
        records = self._residency.records.values()
        return Bytes(
            sum(self._ledger.held(each.id, each.generation) for each in records if is_meant(each))
        )


def _stays(record: ModelRecord) -> bool:
    return record.is_stuck or record.state in _STAYING


def _must_stay(record: ModelRecord) -> bool:
    return record.is_stuck or (record.spec.pinned and record.state in _STAYING)


def _leaves(record: ModelRecord) -> bool:
    return record.state is ModelState.STOPPING and not record.is_stuck


def _is_idle(record: ModelRecord) -> bool:
    return record.state is ModelState.READY and not record.leases and not record.spec.pinned
