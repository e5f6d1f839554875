"""Candidates and routes for tests of this room."""

from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.routing import Route, Strategy
from unified_llm.domain.units import Tokens
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.budget import Budgets
from unified_llm.routing.candidates import LOCAL, Candidate
from unified_llm.routing.plan import Plan, Wish, make_plan


def here(
    name: str,
    *,
    loaded: bool = False,
    context: int | None = None,
    obstacle: UnifiedLlmError | None = None,
) -> Candidate:
    """A model of this machine."""
    tokens = None if context is None else Tokens(context)
    return Candidate(ModelId(name), LOCAL, tokens, loaded, obstacle=obstacle)


def far(
    name: str, *, context: int | None = None, obstacle: UnifiedLlmError | None = None
) -> Candidate:
    """A provider's model; `name` begins with the provider's."""
    tokens = None if context is None else Tokens(context)
    return Candidate(ModelId(name), name.partition("/")[0], tokens, obstacle=obstacle)


def route(
    strategy: Strategy, *candidates: Candidate, local_only: bool = False, **weights: int
) -> Route:
    """A route to these."""
    targets = tuple(each.model for each in candidates)
    weighed = {ModelId(name): weight for name, weight in weights.items()}
    return Route(ModelId("smart"), strategy, targets, weighed, local_only)


def plan_of(
    *candidates: Candidate, strategy: Strategy = Strategy.IN_ORDER, wish: Wish | None = None
) -> Plan:
    """The plan for a request that has these targets."""
    return make_plan(route(strategy, *candidates), candidates, wish or Wish())


def no_accounts() -> Accounts:
    """No price is known, and nothing limited."""
    return Accounts({}, Budgets(), lambda: "2026-11-22", lambda line: None)


def asked(plan: Plan) -> list[str]:
    """The models that are asked, in order."""
    return [each.candidate.model for each in plan.attempts]
