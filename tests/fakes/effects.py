"""Records what the scheduler's core makes happen."""

from dataclasses import dataclass, field

from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.events import ModelMoved, ModelStatus
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Instant, Seconds
from unified_llm.scheduler.effects import Generation, Ticket


@dataclass(frozen=True, slots=True)
class BegunLoad:
    """One call of begin_load."""

    spec: ModelSpec
    generation: Generation
    placement: Placement

    @property
    def model(self) -> ModelId:
        """Which model it is."""
        return self.spec.id


@dataclass(frozen=True, slots=True)
class BegunStop:
    """One call of begin_stop."""

    model: ModelId
    generation: Generation
    grace: Seconds


@dataclass(slots=True)
class FakeEffects:
    """An Effects that does nothing but remember.

    gone: tickets whose callers have left, so that `grant` says False.
    wake: the moment asked for last.
    """

    loads: list[BegunLoad] = field(default_factory=list)
    stops: list[BegunStop] = field(default_factory=list)
    granted: dict[Ticket, tuple[ModelId, Generation]] = field(default_factory=dict)
    refused: dict[Ticket, UnifiedLlmError] = field(default_factory=dict)
    met: list[Ticket] = field(default_factory=list)
    statuses: list[ModelStatus] = field(default_factory=list)
    moves: list[ModelMoved] = field(default_factory=list)
    gone: set[Ticket] = field(default_factory=set)
    wake: Instant | None = None

    def begin_load(self, spec: ModelSpec, generation: Generation, placement: Placement) -> None:
        """As in Effects."""
        self.loads.append(BegunLoad(spec, generation, placement))

    def begin_stop(self, model: ModelId, generation: Generation, *, grace: Seconds) -> None:
        """As in Effects."""
        self.stops.append(BegunStop(model, generation, grace))

    def grant(self, ticket: Ticket, model: ModelId, generation: Generation) -> bool:
        """As in Effects. Raises AssertionError if the ticket has ended before."""
        self._ensure_open(ticket)
        if ticket in self.gone:
            return False
        self.granted[ticket] = (model, generation)
        return True

    def refuse(self, ticket: Ticket, error: UnifiedLlmError) -> None:
        """As in Effects. Raises AssertionError if the ticket has ended before."""
        self._ensure_open(ticket)
        self.refused[ticket] = error

    def reservation_met(self, ticket: Ticket) -> None:
        """As in Effects."""
        self.met.append(ticket)

    def wake_at(self, moment: Instant | None) -> None:
        """As in Effects."""
        self.wake = moment

    def announce(self, status: ModelStatus) -> None:
        """As in Effects."""
        self.statuses.append(status)

    def tell_move(self, moved: ModelMoved) -> None:
        """As in Effects."""
        self.moves.append(moved)

    def _ensure_open(self, ticket: Ticket) -> None:
        assert ticket not in self.granted, f"ticket {ticket} was granted before"
        assert ticket not in self.refused, f"ticket {ticket} was refused before"
