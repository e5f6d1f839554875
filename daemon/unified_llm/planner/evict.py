"""Which models must leave so that another fits.

The question is asked often and speculatively, so nothing here logs or remembers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.models import DEFAULT_PRIORITY, ModelId
from unified_llm.domain.units import Bytes, Instant

Amounts = Mapping[DeviceId, Bytes]
"""So much of each device; nothing of one that is not named."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that holds memory and has not been told to leave.

    is_loading: its load has begun; it counts, but can not leave.
    leases: requests being served. idle_since: when the last one ended.
    has_had_its_turn: although it is leased, it may be asked to finish and leave.
    priority: the lowest leaves first.
    """

    model: ModelId
    memory: Amounts
    pinned: bool
    is_loading: bool
    leases: int
    idle_since: Instant
    has_had_its_turn: bool = False
    priority: int = DEFAULT_PRIORITY

    @property
    def may_leave(self) -> bool:
        """Whether room may be made at its expense."""
        if self.pinned or self.is_loading:
            return False
        return self.leases == 0 or self.has_had_its_turn


def choose_victims(
    target: Amounts, free: Amounts, residents: Sequence[Resident]
) -> tuple[ModelId, ...] | None:
    """The models to send away so that `target` is free; None if all together do not suffice.

    Least loss first: idle before leased, then the lowest priority, then the longest idle, then by
    name. None of the chosen is superfluous: without any one of them there would not be room.
    """
    missing = {device: size - free.get(device, 0) for device, size in target.items()}
    chosen: list[Resident] = []
    for resident in sorted((each for each in residents if each.may_leave), key=_loss):
        if _is_enough(missing):
            break
        if any(missing[device] > 0 and resident.memory.get(device) for device in missing):
            chosen.append(resident)
            _give(missing, resident)
    if not _is_enough(missing):
        return None
    return tuple(each.model for each in _without_superfluous(chosen, missing))


def _loss(resident: Resident) -> tuple[bool, int, float, str]:
    return resident.leases > 0, resident.priority, resident.idle_since, resident.model


def _is_enough(missing: Mapping[DeviceId, int]) -> bool:
    return all(size <= 0 for size in missing.values())


def _give(missing: dict[DeviceId, int], resident: Resident) -> None:
    for device in missing:
        missing[device] -= resident.memory.get(device, 0)


def _without_superfluous(
    chosen: Sequence[Resident], missing: dict[DeviceId, int]
) -> list[Resident]:
    kept: list[Resident] = []
    for resident in reversed(chosen):
        if all(resident.memory.get(device, 0) <= -missing[device] for device in missing):
            for device in missing:
                missing[device] += resident.memory.get(device, 0)
        else:
            kept.append(resident)
    return kept[::-1]
