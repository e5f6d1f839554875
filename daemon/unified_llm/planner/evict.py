"""Which models must leave so that another fits.

The question is asked often and speculatively, so nothing here logs or remembers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Instant


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that holds memory and has not been told to leave.

    is_loading: its load has begun; it counts, but can not leave.
    leases: requests being served. idle_since: when the last one ended.
    has_had_its_turn: although it is leased, it may be asked to finish and leave.
    """

    model: ModelId
    memory_bytes: Bytes
    pinned: bool
    is_loading: bool
    leases: int
    idle_since: Instant
    has_had_its_turn: bool = False

    @property
    def may_leave(self) -> bool:
        """Whether room may be made at its expense."""
        if self.pinned or self.is_loading:
            return False
        return self.leases == 0 or self.has_had_its_turn


def choose_victims(
    target_bytes: Bytes, free_bytes: Bytes, residents: Sequence[Resident]
) -> tuple[ModelId, ...] | None:
    """The models to send away so that `target_bytes` are free; None if all together do not suffice.

    Least loss first: idle before leased, then the longest idle, then by name. None of the chosen is
    superfluous: without any one of them there would not be room.
    """
    missing = target_bytes - free_bytes
    chosen: list[Resident] = []
    for resident in sorted((each for each in residents if each.may_leave), key=_loss):
        if missing <= 0:
            break
        chosen.append(resident)
        missing -= resident.memory_bytes
    if missing > 0:
        return None
    return tuple(each.model for each in _without_superfluous(chosen, surplus=-missing))


def _loss(resident: Resident) -> tuple[bool, float, str]:
    return resident.leases > 0, resident.idle_since, resident.model


def _without_superfluous(chosen: Sequence[Resident], surplus: int) -> list[Resident]:
    kept: list[Resident] = []
    for resident in reversed(chosen):
        if resident.memory_bytes <= surplus:
            surplus -= resident.memory_bytes
        else:
            kept.append(resident)
    return kept[::-1]
