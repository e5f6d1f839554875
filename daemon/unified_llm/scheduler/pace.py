"""How fast a model loads and serves, and how soon it is wanted again: measured, never guessed."""

from dataclasses import dataclass, field
from typing import Final

from unified_llm.domain.units import Seconds

# A value ten observations old counts for a thirtieth of the newest.
_NEWEST_WEIGHS: Final = 0.3


@dataclass(slots=True)
class MovingMean:
    """The mean of what was seen, the newest weighing most; None until something was."""

    value: float | None = None

    def see(self, value: float) -> None:
        """Take one more observation."""
        if self.value is None:
            self.value = value
        else:
            self.value += _NEWEST_WEIGHS * (value - self.value)


@dataclass(slots=True)
class Pace:
    """load: seconds from the start of a worker until it serves. lease: seconds a lease is out.

    gap: seconds from falling idle until the next request, whether the model stayed meanwhile or
    not: if it is shorter than a load, staying would have been better.
    """

    load: MovingMean = field(default_factory=MovingMean)
    lease: MovingMean = field(default_factory=MovingMean)
    gap: MovingMean = field(default_factory=MovingMean)

    @property
    def is_soon_wanted(self) -> bool:
        """Whether it is usually asked again sooner than it could be reloaded."""
        gap, load = self.gap.value, self.load.value
        return gap is not None and load is not None and gap < load

    def until_served(self, waiting: int, slots: int, *, is_loaded: bool) -> Seconds | None:
        """How long it takes to serve `waiting` requests at this pace; None if nothing is known."""
        if self.lease.value is None:
            return None
        loading = 0.0 if is_loaded else self.load.value or 0.0
        return Seconds(loading + waiting * self.lease.value / max(slots, 1))
