"""Which models must leave so that another fits.

The question is asked often and speculatively, so nothing here logs or remembers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.models import DEFAULT_PRIORITY, ModelId
from unified_llm.domain.units import Bytes, Instant

Amounts = Mapping[DeviceId, Bytes]
"""So much of each device; nothing of one that is not named."""

# One that has just fallen idle is not infinitely dear.
_SHORTEST_IDLE: Final = 1.0


class EvictionPolicy(StrEnum):
    """Who leaves first when a model needs room."""

    COST = "cost"  # where the reload, times the priority, is cheapest for the time it lay idle
    PRIORITY = "priority"  # the lowest; among equals the longest idle
    LRU = "lru"  # the longest idle
    FIFO = "fifo"  # the longest loaded


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that holds memory and has not been told to leave.

    is_loading: its load has begun; it counts, but can not leave.
    leases: requests being served. idle_since: when the last one ended.
    has_had_its_turn: although it is in use, it may be asked to finish and leave.
    is_expected: it is as good as in use, for it will be asked again before it could be reloaded.
    is_named: it is the one that is to make room, if it may leave.
    loaded_since: when it began to serve. reload_seconds: what its load took.
    """

    model: ModelId
    memory: Amounts
    pinned: bool
    is_loading: bool
    leases: int
    idle_since: Instant
    has_had_its_turn: bool = False
    priority: int = DEFAULT_PRIORITY
    is_expected: bool = False
    is_named: bool = False
    loaded_since: Instant = Instant(0)
    reload_seconds: float = 1.0

    @property
    def may_leave(self) -> bool:
        """Whether room may be made at its expense."""
        if self.pinned or self.is_loading:
            return False
        return not (self.leases or self.is_expected) or self.has_had_its_turn

    def loss(self, policy: EvictionPolicy, now: Instant) -> float:
        """What is lost when it leaves, to be compared with others; never less in use than idle."""
        match policy:
            case EvictionPolicy.PRIORITY:
                return self.priority
            case EvictionPolicy.LRU:
                return self.idle_since
            case EvictionPolicy.FIFO:
                return self.loaded_since
            case EvictionPolicy.COST:
                idle = max(now - self.idle_since, _SHORTEST_IDLE)
                return self.reload_seconds * (1 + self.priority) / idle


def choose_victims(
    target: Amounts,
    free: Amounts,
    residents: Sequence[Resident],
    policy: EvictionPolicy = EvictionPolicy.PRIORITY,
    now: Instant = Instant(0),
) -> tuple[ModelId, ...] | None:
    """The models to send away so that `target` is free; None if all together do not suffice.

    The named one first, then idle before leased, then by the policy, then the longest idle, then by
    name. None of the chosen is superfluous: without any one of them there would not be room.
    """
    missing = {device: size - free.get(device, 0) for device, size in target.items()}
    chosen: list[Resident] = []
    willing = (each for each in residents if each.may_leave)
    for resident in sorted(willing, key=lambda each: _order(each, policy, now)):
        if _is_enough(missing):
            break
        if any(missing[device] > 0 and resident.memory.get(device) for device in missing):
            chosen.append(resident)
            _give(missing, resident)
    if not _is_enough(missing):
        return None
    return tuple(each.model for each in _without_superfluous(chosen, missing))


def _order(
    resident: Resident, policy: EvictionPolicy, now: Instant
) -> tuple[bool, bool, float, Instant, ModelId]:
    loss = resident.loss(policy, now)
    is_leased = resident.leases > 0
    return not resident.is_named, is_leased, loss, resident.idle_since, resident.model


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
