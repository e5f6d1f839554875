"""A strategy of somebody else's: an entry point of the group `unified_llm.strategies`.

Rule 1: it orders what may be asked and nothing else: it is given the targets that are left when
all that must be skipped was skipped, so that it can send nothing away that has to stay.
Rule 2: whatever it does, the request goes on: where it fails or says nonsense, targets are asked
as they are written, and the log and the daemon's health say why.
Rule 3: it is called on the loop, where it holds up everybody; one that computed for longer than
LIMIT is not called again before the next start or reload, nor one that took longer SLOW_CALLS times
in a row. Once is no fault of its own: a busy machine lets anybody wait.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from unified_llm.domain.models import ModelId
from unified_llm.domain.ports import Clock
from unified_llm.domain.units import Seconds
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.rules import Asking

LIMIT: Final = Seconds(0.1)
SLOW_CALLS: Final = 3

Order = Callable[[Sequence[Candidate], Asking], Sequence[ModelId]]
"""What an entry point is: the models in the order in which they shall be asked.

Those that it leaves out come after them, as they are written.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preference:
    """An order of targets. why: half a sentence."""

    ordered: tuple[Candidate, ...]
    why: str


@dataclass(slots=True)
class OwnStrategy:
    """name: of the entry point. fault: half a sentence on why it is not followed; None if it is.

    processor_time: seconds that this thread has computed.
    """

    name: str
    order: Order
    processor_time: Callable[[], float]
    fault: str | None = None
    _slow_calls: int = field(default=0)
    _is_benched: bool = field(default=False)

    def prefer(self, usable: Sequence[Candidate], asking: Asking, clock: Clock) -> Preference:
        """`usable`, each once, as it wants them. Never raises."""
        if not self._is_benched:
            begun, computed = clock.now(), self.processor_time()
            found = self._ask(tuple(usable), asking)
            computed, took = self.processor_time() - computed, clock.now() - begun
            if self._is_too_slow(took, computed):
                self._is_benched = True
                found = f"took {took:.1f} s and computed {computed:.1f}; {LIMIT:g} is the limit"
            if not isinstance(found, str):
                self.fault = None
                return Preference(found, f"ordered by strategy {self.name}")
            self._note(found)
        return Preference(tuple(usable), f"as written: strategy {self.name} {self.fault}")

    def _is_too_slow(self, took: float, computed: float) -> bool:
        self._slow_calls = self._slow_calls + 1 if took > LIMIT else 0
        return computed > LIMIT or self._slow_calls >= SLOW_CALLS

    def _ask(self, usable: tuple[Candidate, ...], asking: Asking) -> tuple[Candidate, ...] | str:
        """The order, or what is wrong with it."""
        by_model = {each.model: each for each in usable}
        try:
            named = tuple(self.order(usable, asking))
            if not all(each in by_model for each in named):
                return "named what is not among the targets"
        except (Exception, SystemExit) as error:  # noqa: BLE001  it is foreign code
            _log.debug("strategy %s failed", self.name, exc_info=error)
            return f"failed with {type(error).__name__}"
        if len(set(named)) != len(named):
            return "named a target twice"
        left = (each for each in usable if each.model not in named)
        return (*(by_model[each] for each in named), *left)

    def _note(self, fault: str) -> None:
        if fault != self.fault:
            _log.warning("strategy %s %s; targets are asked as written", self.name, fault)
        self.fault = fault
