"""How long targets take to their first content, as measured: never a guess, and soon forgotten."""

from dataclasses import dataclass, field
from typing import Final

from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.routing.candidates import Candidate

BELIEVED_FOR: Final = Seconds(600)
# The last measurement counts for three tenths, so that one slow answer does not decide alone.
_WEIGHT: Final = 0.3


@dataclass(frozen=True, slots=True)
class _Measured:
    seconds: Seconds
    until: Instant


@dataclass(slots=True)
class Latencies:
    """Measurements of each target; one that is loaded is another thing than one that is not."""

    _known: dict[tuple[ModelId, bool], _Measured] = field(default_factory=dict)

    def observe(self, candidate: Candidate, seconds: Seconds, now: Instant) -> None:
        """`candidate` has taken `seconds` from the request to its first content."""
        before = self.expected(candidate.model, now, is_resident=candidate.is_resident)
        mixed = seconds if before is None else before + _WEIGHT * (seconds - before)
        key = candidate.model, candidate.is_resident
        self._known[key] = _Measured(Seconds(mixed), later(now, BELIEVED_FOR))

    def expected(self, model: ModelId, now: Instant, *, is_resident: bool) -> Seconds | None:
        """How long it will take; None if it was not measured lately."""
        known = self._known.get((model, is_resident))
        return known.seconds if known is not None and now < known.until else None
