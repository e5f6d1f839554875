"""What it would take to have a model serve."""

from dataclasses import dataclass

from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds


@dataclass(frozen=True, slots=True)
class Arrival:
    """As things are; nothing has been done for it.

    loading: how long until it could serve, as its loads have taken; None if there was none yet.
    leaving: the models that would have to leave memory for it; None if there would not be room
    even then.
    """

    loading: Seconds | None
    leaving: tuple[ModelId, ...] | None
