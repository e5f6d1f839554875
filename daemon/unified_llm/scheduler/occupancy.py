"""Who is where: what the models hold and leave of each device."""

from collections.abc import Callable

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes
from unified_llm.planner.evict import Resident
from unified_llm.scheduler.ledger import MemoryLedger
from unified_llm.scheduler.residency import Residency
from unified_llm.scheduler.state import ModelRecord

_STAYING = frozenset({ModelState.LOADING, ModelState.READY})


class Occupancy:
    """Answers from the records and the ledger; keeps nothing of its own."""

    def __init__(self, ledger: MemoryLedger, residency: Residency) -> None:
        self._ledger = ledger
        self._working = residency.working

    def residents(
        self,
        has_had_its_turn: Callable[[ModelRecord], bool],
        is_expected: Callable[[ModelRecord], bool],
        successor: ModelId | None = None,
    ) -> list[Resident]:
        """The models that hold memory and have not been told to leave."""
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
                is_expected=is_expected(each),
                is_named=successor is not None and each.successor == successor,
                loaded_since=each.since,
                reload_seconds=each.pace.load.value or 0.0,
            )
            for each in self._working.values()
            if each.state in _STAYING
        ]

    def held_by(self, is_meant: Callable[[ModelRecord], bool]) -> dict[DeviceId, Bytes]:
        """What is held of each device by those that are meant."""
        found: dict[DeviceId, Bytes] = {}
        for each in filter(is_meant, self._working.values()):
            for device, size in self._ledger.held(each.id, each.generation).items():
                found[device] = Bytes(found.get(device, 0) + size)
        return found

    def left(self, is_meant: Callable[[ModelRecord], bool]) -> dict[DeviceId, Bytes]:
        """What is left of each device by those that are meant."""
        held = self.held_by(is_meant)
        limits = self._ledger.limits()
        return {
            device: Bytes(limits.get(device, 0) - held.get(device, 0)) for device in limits | held
        }


def stays(record: ModelRecord) -> bool:
    """Whether it holds memory and has not been told to leave."""
    return record.is_stuck or record.state in _STAYING


def must_stay(record: ModelRecord) -> bool:
    """Whether no room can be made at its expense, however long one waits."""
    return record.is_stuck or (record.spec.pinned and record.state in _STAYING)


def leaves(record: ModelRecord) -> bool:
    """Whether its memory is about to be free."""
    return record.state is ModelState.STOPPING and not record.is_stuck


def is_idle(record: ModelRecord) -> bool:
    """Whether it may leave at once."""
    return record.state is ModelState.READY and not record.leases and not record.spec.pinned
