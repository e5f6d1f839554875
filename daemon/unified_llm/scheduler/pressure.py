"""Makes models leave for others than models, and brings them back.

Rule 1: what programs have reserved comes first, and waits for nobody's turn.
Rule 2: the lowest priority leaves first, and only as much as must.
Rule 3: what others took without asking is given back to models only when the use is well below
    what sent them away, so that they do not come and go.
"""

import logging
from collections.abc import Mapping

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.errors import NoRoom
from unified_llm.domain.events import ModelMoved, Move
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Instant, render_bytes
from unified_llm.planner.evict import Amounts, choose_victims
from unified_llm.scheduler.effects import Effects
from unified_llm.scheduler.ledger import MemoryLedger
from unified_llm.scheduler.occupancy import Occupancy, must_stay, stays
from unified_llm.scheduler.placing import Placer
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.residency import Residency, render_amounts
from unified_llm.scheduler.state import DrainReason, ModelRecord

_log = logging.getLogger(__name__)


class Pressure:
    """are_inhibited: nobody is sent away for anything."""

    def __init__(
        self,
        effects: Effects,
        policy: SchedulingPolicy,
        ledger: MemoryLedger,
        residency: Residency,
        occupancy: Occupancy,
        placer: Placer,
    ) -> None:
        self._effects = effects
        self._policy = policy
        self._ledger = ledger
        self._residency = residency
        self._occupancy = occupancy
        self._placer = placer
        self.are_inhibited = False

    def objection_to_reserving(self, size: Bytes) -> NoRoom | None:
        """Why `size` can not be reserved, with the numbers; None if it can."""
        device = self._ledger.reservable
        if size <= self._occupancy.left(must_stay)[device]:
            return None
        return NoRoom(
            f"{render_bytes(size)} can not be reserved; {self._limits(device)}.",
            hint="Reserve less, unpin a model, or raise the memory budget.",
        )

    def make_way_for_reservations(self, now: Instant) -> None:
        """Send models away for what programs have reserved."""
        if self.are_inhibited:
            return
        left = self._occupancy.left(stays)
        short = {
            device: size
            for device, size in left.items()
            if size < 0 and self._ledger.reserved(device)
        }
        if not short:
            return
        for leaving in self._victims(dict.fromkeys(short, Bytes(0)), short):
            kept = {device: self._ledger.reserved(device) for device in short}
            self._make_leave(leaving, f"programs have reserved {render_amounts(kept)}")
            self._residency.send_away(leaving, DrainReason.RESERVED, now, self._policy.drain_grace)

    def make_way_for_others(self, now: Instant) -> None:
        """Send models away from GPUs that other programs have filled, the lowest priority first."""
        left = self._occupancy.left(stays)
        short = {gpu: left[gpu] for gpu in self._ledger.gpus if left[gpu] < 0}
        if not short or self.are_inhibited:
            return
        wanted = {gpu: self._ledger.slack(gpu) for gpu in short}
        for leaving in self._victims(wanted, short):
            self._displace(leaving, short, now)

    def _victims(self, wanted: Amounts, free: Amounts) -> list[ModelRecord]:
        """Who must leave so that `wanted` is free, or all who may if that does not suffice."""
        residents = self._occupancy.residents(lambda _: True, lambda _: False)
        victims = choose_victims(wanted, free, residents)
        if victims is None:
            victims = tuple(
                each.model
                for each in residents
                if each.may_leave and any(each.memory.get(device) for device in free)
            )
        return [self._residency.records[victim] for victim in victims]

    def _displace(self, record: ModelRecord, gpus: Mapping[DeviceId, Bytes], now: Instant) -> None:
        foreign = {gpu: self._ledger.foreign(gpu) or Bytes(0) for gpu in gpus}
        record.note(self._make_leave(record, f"other programs hold {render_amounts(foreign)}"))
        record.is_displaced = True
        self._residency.send_away(record, DrainReason.PRESSURE, now, self._policy.drain_grace)

    def _make_leave(self, record: ModelRecord, reason: str) -> NoRoom:
        why = NoRoom(f"{record.id} makes way: {reason}.")
        _log.warning("%s", why)
        self._effects.tell_move(ModelMoved(record.id, Move.MAKE_WAY, why.message))
        return why

    def bring_back_displaced(self, now: Instant) -> None:
        """Load what had to make way as well as is possible now, and better when it can be."""
        for record in tuple(self._residency.records.values()):
            if not record.is_displaced or record.has_vanished or record.leases:
                continue
            held = self._ledger.held(record.id, record.generation)
            room = {
                device: Bytes(left + held.get(device, 0) - self._ledger.slack(device))
                for device, left in self._occupancy.left(stays).items()
            }
            placement = self._placer.place(record.spec, room, record.cap)
            if isinstance(placement, NoRoom):
                continue
            if record.state is ModelState.AVAILABLE and self._ledger.has_room(placement.memory):
                self._bring_back(record, placement, now)
            elif (
                record.state is ModelState.READY
                and record.placement is not None
                and placement.offloaded > record.placement.offloaded
            ):
                _log.info("%s is to have more of the GPUs again", record.id)
                self._residency.stop(record, now)

    def _bring_back(self, record: ModelRecord, placement: Placement, now: Instant) -> None:
        gpus = {at: self._ledger.foreign(at) or Bytes(0) for at in self._ledger.gpus}
        why = f"{record.id} comes back: other programs hold {render_amounts(gpus)}."
        why = " ".join((why, *placement.sacrifices))
        _log.info("%s", why)
        self._effects.tell_move(ModelMoved(record.id, Move.COME_BACK, why))
        self._residency.begin_load(record, placement, now)

    def _limits(self, device: DeviceId) -> str:
        ledger = self._ledger
        kept = self._occupancy.held_by(must_stay).get(device, Bytes(0))
        text = (
            f"the budget is {render_bytes(ledger.limit(device))} of {device}, {render_bytes(kept)} "
            "of it held by models that must stay"
        )
        reserved = ledger.reserved(device)
        return f"{text} and {render_bytes(reserved)} reserved by programs" if reserved else text
