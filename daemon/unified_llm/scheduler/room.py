"""Finds room for the models that wait to be loaded.

Rule 1: models are loaded in the order in which they began to wait. The first that can not even be
    promised room holds up all behind it: small models that slip past would starve a large one.
Rule 2: what is promised is not yet there; a load begins when the memory is free.
Rule 3: a model in use keeps its place for a turn, however many wait for others; then it drains.
Rule 4: what is reserved for others than models comes first, and waits for nobody's turn.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from unified_llm.domain.devices import RAM, DeviceId
from unified_llm.domain.errors import NoRoom
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Instant, later, render_bytes
from unified_llm.planner.evict import Resident, choose_victims
from unified_llm.scheduler.ledger import MemoryLedger
from unified_llm.scheduler.placing import Placer
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.residency import Residency, render_amounts
from unified_llm.scheduler.state import DrainReason, ModelRecord, Replan
from unified_llm.scheduler.suspension import Suspension
from unified_llm.scheduler.tickets import Tickets
from unified_llm.scheduler.timers import Timers

_log = logging.getLogger(__name__)

_TURN = "turn"
# Of what the load that ran out of memory was given.
_SHRUNK: Final = 0.75
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
        self._placer = Placer(ledger, policy.sacrifices)
        self.are_loads_inhibited = False
        self.are_evictions_inhibited = False

    def make(self, now: Instant) -> None:
        """Begin every load whose time has come; make room for the others."""
        self._timers.clear((_TURN,))
        self._make_way_for_reservations(now)
        self._make_way_for_others(now)
        self._refuse_what_can_not_fit(now)
        if self.are_loads_inhibited or self._suspension.holds:
            return
        promised = self._left(_stays)
        is_waiting = False
        for record in tuple(self._residency.queued.values()):
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
            self._bring_back_displaced(now)

    def replan(self, record: ModelRecord, now: Instant) -> bool:
        """Prepare one more try after a load ran out of memory; False if there was one already."""
        if record.replan is not Replan.NONE:
            return False
        idle = [each for each in self._residency.records.values() if _is_idle(each)]
        if idle:
            record.replan = Replan.ALONE
            for each in idle:
                self._residency.stop(each, now)
        elif record.placement is not None:
            cap = _shrunk(record.placement)
            budgets = self._left(_must_stay)
            if isinstance(self._placer.place(record.spec, budgets, cap), Placement):
                record.replan, record.cap = Replan.SMALLER, cap
        return record.replan is not Replan.NONE

    def forget(self, model: ModelId) -> None:
        """The model has left the catalogue."""
        self._placer.forget(model)

    def _best(self, record: ModelRecord) -> Placement | NoRoom:
        """What it would be given if all left that may."""
        return self._placer.place(record.spec, self._left(_must_stay), record.cap)

    def objection_to_reserving(self, size: Bytes) -> NoRoom | None:
        """Why `size` can not be reserved, with the numbers; None if it can."""
        device = self._ledger.reservable
        if size <= self._left(_must_stay)[device]:
            return None
        return NoRoom(
            f"{render_bytes(size)} can not be reserved; {self._limits(device)}.",
            hint="Reserve less, unpin a model, or raise the memory budget.",
        )

    def _limits(self, device: DeviceId) -> str:
        ledger = self._ledger
        kept = self._held_by(_must_stay).get(device, Bytes(0))
        text = (
            f"the budget is {render_bytes(ledger.limit(device))} of {device}, {render_bytes(kept)} "
            "of it held by models that must stay"
        )
        reserved = ledger.reserved(device)
        return f"{text} and {render_bytes(reserved)} reserved by programs" if reserved else text

    def _make_way_for_reservations(self, now: Instant) -> None:
        if self.are_evictions_inhibited:
            return
        left = self._left(_stays)
        short = {
            device: size
            for device, size in left.items()
            if size < 0 and self._ledger.reserved(device)
        }
        if not short:
            return
        residents = self._residents(lambda _: True)
        victims = choose_victims(dict.fromkeys(short, Bytes(0)), short, residents)
        if victims is None:
            victims = tuple(
                each.model
                for each in residents
                if each.may_leave and any(each.memory.get(device) for device in short)
            )
        for victim in victims:
            leaving = self._residency.records[victim]
            self._residency.send_away(leaving, DrainReason.RESERVED, now, self._policy.drain_grace)

    def _make_way_for_others(self, now: Instant) -> None:
        """Send models away from GPUs that other programs have filled, the lowest priority first."""
        left = self._left(_stays)
        short = {gpu: left[gpu] for gpu in self._ledger.gpus if left[gpu] < 0}
        if not short or self.are_evictions_inhibited:
            return
        residents = self._residents(lambda _: True)
        wanted = {gpu: self._ledger.slack(gpu) for gpu in short}
        victims = choose_victims(wanted, short, residents)
        if victims is None:
            victims = tuple(
                each.model
                for each in residents
                if each.may_leave and any(each.memory.get(gpu) for gpu in short)
            )
        for victim in victims:
            leaving = self._residency.records[victim]
            self._displace(leaving, short, now)

    def _displace(self, record: ModelRecord, gpus: Mapping[DeviceId, Bytes], now: Instant) -> None:
        foreign = {gpu: self._ledger.foreign(gpu) or Bytes(0) for gpu in gpus}
        why = NoRoom(f"{record.id} makes way: other programs hold {render_amounts(foreign)}.")
        _log.warning("%s", why)
        record.note(why)
        record.is_displaced = True
        self._residency.send_away(record, DrainReason.PRESSURE, now, self._policy.drain_grace)

    def _bring_back_displaced(self, now: Instant) -> None:
        """Load what had to make way as well as is possible now, and better when it can be."""
        for record in tuple(self._residency.records.values()):
            if not record.is_displaced or record.has_vanished or record.leases:
                continue
            held = self._ledger.held(record.id, record.generation)
            room = {
                device: Bytes(left + held.get(device, 0) - self._ledger.slack(device))
                for device, left in self._left(_stays).items()
            }
            placement = self._placer.place(record.spec, room, record.cap)
            if isinstance(placement, NoRoom):
                continue
            if record.state is ModelState.AVAILABLE and self._ledger.has_room(placement.memory):
                _log.info("%s comes back", record.id)
                self._residency.begin_load(record, placement, now)
            elif (
                record.state is ModelState.READY
                and record.placement is not None
                and placement.offloaded > record.placement.offloaded
            ):
                self._residency.stop(record, now)

    def _refuse_what_can_not_fit(self, now: Instant) -> None:
        for record in tuple(self._residency.queued.values()):
            best = self._best(record)
            if isinstance(best, NoRoom):
                self._tickets.refuse_waiting(record, partial(self._no_room, record, best))
            if not record.queue:
                self._residency.attend(record, now)

    def _no_room(self, record: ModelRecord, refusal: NoRoom) -> NoRoom:
        """The planner's numbers, and what they leave out."""
        kept = self._held_by(_must_stay)
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
                self._residency.send_away(leaving, DrainReason.ROOM, now, self._policy.drain_grace)
        for device, size in placement.memory.items():
            promised[device] = Bytes(promised[device] - size)
        return placement

    def _must_wait(self, record: ModelRecord) -> bool:
        # The load before ran out of memory although the ledger had enough, so this time it waits
        # until all that leave have left.
        return record.replan is not Replan.NONE and (
            self._ledger.awaits_return or any(map(_leaves, self._residency.records.values()))
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
        residents = self._residents(lambda each: self._turn_ends(each, record) <= now)
        return choose_victims(placement.memory, promised, residents)

    def _residents(self, has_had_its_turn: Callable[[ModelRecord], bool]) -> list[Resident]:
        return [
            Resident(
                model=each.id,
                memory=self._ledger.held(each.id, each.generation),
                pinned=each.spec.pinned,
                is_loading=each.state is ModelState.LOADING,
                leases=len(each.leases),
                idle_since=each.last_used,
                has_had_its_turn=has_had_its_turn(each),
                priority=each.spec.priority,
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

    def _held_by(self, is_meant: Callable[[ModelRecord], bool]) -> dict[DeviceId, Bytes]:
        found: dict[DeviceId, Bytes] = {}
        for each in filter(is_meant, self._residency.records.values()):
            for device, size in self._ledger.held(each.id, each.generation).items():
                found[device] = Bytes(found.get(device, 0) + size)
        return found

    def _left(self, is_meant: Callable[[ModelRecord], bool]) -> dict[DeviceId, Bytes]:
        """What is left of each device by those that are meant."""
        held = self._held_by(is_meant)
        limits = self._ledger.limits()
        return {
            device: Bytes(limits.get(device, 0) - held.get(device, 0)) for device in limits | held
        }


def _stays(record: ModelRecord) -> bool:
    return record.is_stuck or record.state in _STAYING


def _must_stay(record: ModelRecord) -> bool:
    return record.is_stuck or (record.spec.pinned and record.state in _STAYING)


def _leaves(record: ModelRecord) -> bool:
    return record.state is ModelState.STOPPING and not record.is_stuck


def _is_idle(record: ModelRecord) -> bool:
    return record.state is ModelState.READY and not record.leases and not record.spec.pinned


def _shrunk(placement: Placement) -> dict[DeviceId, Bytes]:
    """Less of each GPU; of main memory only if there was no GPU, for what leaves one goes there."""
    gpus = placement.memory.keys() - {RAM}
    return {
        device: Bytes(int(size * _SHRUNK))
        for device, size in placement.memory.items()
        if device in gpus or not gpus
    }
