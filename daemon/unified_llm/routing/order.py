"""Which target comes before which: time, money and the place of others, compared in one place.

Rule 1: seconds, dollars and models that would leave are never added up: nobody has said what one
is worth in the others. A strategy looks at one of them first, and at the next only among equals.
Rule 2: what is not known is never taken for nothing.
"""

from collections.abc import Mapping
from math import inf

from unified_llm.domain.models import ModelId
from unified_llm.domain.money import render_dollars
from unified_llm.domain.routing import Strategy
from unified_llm.routing.candidates import Candidate

Rank = tuple[float, ...]
"""Smaller is earlier; sorting keeps the order of equals."""


def rank(strategy: Strategy, candidate: Candidate) -> Rank:
    """The place of `candidate` by a strategy that takes no turns."""
    match strategy:
        case Strategy.COST_OPTIMISED:
            return *_money(candidate), *_disturbance(candidate), *_time(candidate)
        case Strategy.LATENCY_OPTIMISED:
            return *_soonest(candidate), *_money(candidate)
        case Strategy.LOCAL_FIRST:
            return (0, candidate.is_cold) if candidate.is_local else (1, 0)
        case Strategy.CLOUD_FIRST:
            return (1, candidate.is_cold) if candidate.is_local else (0, 0)
        case _:
            return ()


def compares(strategy: Strategy) -> bool:
    """Whether it matters to `strategy` what loading a target would take."""
    return strategy in {Strategy.COST_OPTIMISED, Strategy.LATENCY_OPTIMISED, Strategy.CUSTOM}


def _money(candidate: Candidate) -> Rank:
    return (1, 0) if candidate.cost is None else (0, candidate.cost)


def _disturbance(candidate: Candidate) -> Rank:
    """Loaded ones first, then by how many others would have to leave."""
    leaving = inf if candidate.leaving is None else len(candidate.leaving)
    return candidate.is_cold, leaving


def _time(candidate: Candidate) -> Rank:
    return (1, 0) if candidate.first_content is None else (0, candidate.first_content)


def _soonest(candidate: Candidate) -> Rank:
    """What is not known is asked so that it gets known, unless a model had to be loaded for it."""
    if candidate.leaving is None:
        return 3, 0
    if candidate.first_content is not None:
        return 1, candidate.first_content
    return (2, len(candidate.leaving)) if candidate.is_cold else (0, 0)


def reason(
    strategy: Strategy, candidate: Candidate, place: int, weights: Mapping[ModelId, int]
) -> str:
    """Why `candidate` has its place, from 0."""
    match strategy:
        case Strategy.IN_ORDER:
            return "asked first" if place == 0 else "falls back to it"
        case Strategy.ROUND_ROBIN:
            return "its turn" if place == 0 else "a later turn"
        case Strategy.WEIGHTED:
            turn = "its turn" if place == 0 else "a later turn"
            return f"{turn}, weight {weights.get(candidate.model, 1)}"
        case Strategy.LATENCY_OPTIMISED if candidate.first_content is not None:
            return f"begins after {candidate.first_content:.2f} s, by what was measured"
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
