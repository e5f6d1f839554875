"""Which targets are asked for a request, in which order, and why: pure, so it can be explained.

Rule 1: a request that may not leave the machine has no target elsewhere in its plan, whoever said
so: the request itself, its caller, or the route. Nothing after the plan can add one.
Rule 2: every target of the route is in the plan once, to be asked or skipped, with the reason.
Rule 3: what is skipped is what is known to fail; what is merely likely to fail is asked later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.errors import LocalOnly, TooLarge, UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money, render_dollars
from unified_llm.domain.routing import Route, Strategy
from unified_llm.domain.units import Instant, Seconds, Tokens
from unified_llm.routing.rotation import Credits, take_turn

LOCAL: Final = "local"
"""What the backend of this machine is called; no provider can be."""

_SPINNING: Final = frozenset({Strategy.ROUND_ROBIN, Strategy.WEIGHTED})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target, and what is known of it at this moment.

    backend: LOCAL or the provider's name. context_tokens: None if not known.
    is_resident: loaded and serving. cost: the most that the request costs; None if not known.
    first_content: how long it takes to begin, as measured lately; None if it was not.
    obstacle: why it can not be asked; None if nothing is known.
    free_at: when the obstacle is gone by itself; None if it will not be, or nobody knows.
    """

    model: ModelId
    backend: str
    context_tokens: Tokens | None = None
    is_resident: bool = False
    cost: Money | None = None
    first_content: Seconds | None = None
    obstacle: UnifiedLlmError | None = None
    free_at: Instant | None = None

    @property
    def is_local(self) -> bool:
        """Whether the request stays on this machine."""
        return self.backend == LOCAL


@dataclass(frozen=True, slots=True)
class Wish:
    """What is known of a request before anybody has seen it.

    kept_local: who wants it not to leave the machine, as a subject; None if it may.
    least_tokens: the prompt has as many at least.
    """

    kept_local: str | None = None
    least_tokens: Tokens = Tokens(0)


@dataclass(frozen=True, slots=True)
class Planned:
    """A target that is asked in its turn."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target that is not asked. error: what asking it would come to."""

    candidate: Candidate
    error: UnifiedLlmError

    @property
    def may_pass(self) -> bool:
        """Whether it is skipped for nothing but an obstacle that goes away by itself."""
        return self.error is self.candidate.obstacle and self.candidate.free_at is not None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done for one request. credits: of the route's rotation, once this turn is taken."""

    route: Route
    kept_local: str | None
    attempts: tuple[Planned, ...]
    skipped: tuple[Skipped, ...]
    credits: Credits

    @property
    def later(self) -> tuple[Candidate, ...]:
        """Those that are skipped now and may be asked in a while."""
        return tuple(each.candidate for each in self.skipped if each.may_pass)


def make_plan(
    route: Route, candidates: Sequence[Candidate], wish: Wish, had: Credits | None = None
) -> Plan:
    """The plan for one request. candidates: each target of `route`, in its order."""
    kept_local = wish.kept_local
    if kept_local is None and route.local_only:
        kept_local = f"route {route.name}"
    usable: list[Candidate] = []
    skipped: list[Skipped] = []
    for candidate in candidates:
        error = _refusal(candidate, kept_local, wish.least_tokens)
        if error is None:
            usable.append(candidate)
        else:
            skipped.append(Skipped(candidate, error))
    ordered, left = _in_turn(route, usable, had or {})
    attempts = tuple(
        Planned(candidate, _reason(route.strategy, candidate, place, route.weights))
        for place, candidate in enumerate(ordered)
    )
    return Plan(route, kept_local, attempts, tuple(skipped), left)


def _refusal(candidate: Candidate, kept_local: str | None, least: Tokens) -> UnifiedLlmError | None:
    if kept_local is not None and not candidate.is_local:
        return LocalOnly(
            f"{candidate.model} is not on this machine, and {kept_local} keeps the request here.",
            hint="Ask a model of this machine.",
        )
    if candidate.obstacle is not None:
        return candidate.obstacle
    if candidate.context_tokens is not None and least > candidate.context_tokens:
        return TooLarge(
            f"The messages have {least} tokens at least; the context of {candidate.model} has "
            f"{candidate.context_tokens}.",
            hint="Shorten the conversation or give the model a larger context.",
        )
    return None


def _in_turn(
    route: Route, usable: Sequence[Candidate], had: Credits
) -> tuple[Sequence[Candidate], Credits]:
    if route.strategy in _SPINNING:
        weights = route.weights if route.strategy is Strategy.WEIGHTED else {}
        turn = take_turn([each.model for each in usable], weights, had)
        by_model = {each.model: each for each in usable}
        return [by_model[model] for model in turn.order], turn.credits
    return sorted(usable, key=lambda each: _rank(route.strategy, each)), had


def _rank(strategy: Strategy, candidate: Candidate) -> tuple[int, float]:
    """Smaller is earlier; sorting keeps the order of equals."""
    cold = 0 if candidate.is_resident else 1
    match strategy:
        case Strategy.COST_OPTIMISED:
            return (1, 0) if candidate.cost is None else (0, 2 * candidate.cost + cold)
        case Strategy.LATENCY_OPTIMISED:
            return _latency_rank(candidate)
        case Strategy.LOCAL_FIRST:
            return (0, cold) if candidate.is_local else (1, 0)
        case Strategy.CLOUD_FIRST:
            return (1, cold) if candidate.is_local else (0, 0)
        case _:
            return (0, 0)


def _latency_rank(candidate: Candidate) -> tuple[int, float]:
    """What is not known is asked so that it gets known, unless a model had to be loaded for it."""
    if candidate.first_content is not None:
        return (1, candidate.first_content)
    return (2, 0) if candidate.is_local and not candidate.is_resident else (0, 0)


def _reason(
    strategy: Strategy, candidate: Candidate, place: int, weights: Mapping[ModelId, int]
) -> str:
    match strategy:
        case Strategy.IN_ORDER:
            return "asked first" if place == 0 else "falls back to it"
        case Strategy.ROUND_ROBIN:
            return "its turn" if place == 0 else "a later turn"
        case Strategy.WEIGHTED:
            turn = "its turn" if place == 0 else "a later turn"
            return f"{turn}, weight {weights.get(candidate.model, 1)}"
        case Strategy.LATENCY_OPTIMISED if candidate.first_content is not None:
            return f"begins after {candidate.first_content:.2f} s, as measured"
        case Strategy.LATENCY_OPTIMISED:
            return f"not measured lately; {_where(candidate)}"
        case Strategy.COST_OPTIMISED if not candidate.is_local:
            return _render_cost(candidate)
        case _:
            return _where(candidate)


def _render_cost(candidate: Candidate) -> str:
    if candidate.cost is None:
        return f"its price at provider {candidate.backend} is not known"
    return f"{render_dollars(candidate.cost)} dollars at most, at provider {candidate.backend}"


def _where(candidate: Candidate) -> str:
    if not candidate.is_local:
        return f"answered by provider {candidate.backend}"
    return "loaded on this machine" if candidate.is_resident else "on this machine, not loaded"
