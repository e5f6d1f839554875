"""Which targets are asked for a request, in which order, and why: pure, so it can be explained.

Rule 1: a request that may not leave the machine has no target elsewhere in its plan, whoever said
so: the request itself, its caller, or the route. Nothing after the plan can add one.
Rule 2: every target of the route is in the plan once, to be asked or skipped, with the reason.
Rule 3: what is skipped is what is known to fail; what is merely likely to fail is asked later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.errors import LocalOnly, TooLarge, UnifiedLlmError
from unified_llm.domain.routing import Route, Strategy
from unified_llm.domain.units import Tokens
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.order import rank, reason
from unified_llm.routing.own_strategy import Preference
from unified_llm.routing.rotation import Credits, take_turn

_SPINNING: Final = frozenset({Strategy.ROUND_ROBIN, Strategy.WEIGHTED})


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


Prefer = Callable[[Sequence[Candidate]], Preference]
"""What a strategy of somebody else's makes of those that may be asked."""


def make_plan(
    route: Route,
    candidates: Sequence[Candidate],
    wish: Wish,
    had: Credits | None = None,
    prefer: Prefer | None = None,
) -> Plan:
    """The plan for one request. candidates: each target of `route`, in its order.

    prefer: for a route whose strategy is CUSTOM.
    """
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
    if prefer is not None and route.strategy is Strategy.CUSTOM:
        preference, left = prefer(usable), had or {}
        attempts = tuple(Planned(each, preference.why) for each in preference.ordered)
    else:
        ordered, left = _in_turn(route, usable, had or {})
        attempts = tuple(
            Planned(candidate, reason(route.strategy, candidate, place, route.weights))
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
    return sorted(usable, key=lambda each: rank(route.strategy, each)), had
