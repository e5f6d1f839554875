"""Sampling numbers are completed from the defaults and checked once more."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import Sampling
from unified_llm.domain.errors import InvalidRequest
from unified_llm.worker.sampling import ResolvedSampling, resolve_sampling

_EDGES: dict[str, tuple[list[Any], list[Any]]] = {
    "temperature": ([0, 2.0], [-0.001, 2.001]),
    "top_p": ([0.001, 1], [0, 1.001, -1]),
    "top_k": ([0, 1000], [-1, 1001, 2**31, 2**63]),
    "min_p": ([0, 1], [-0.001, 1.001]),
    "repeat_penalty": ([0.001, 2], [0, 2.001]),
    "frequency_penalty": ([-2, 2], [-2.001, 2.001]),
    "presence_penalty": ([-2, 2], [-2.001, 2.001]),
    "seed": ([0, 2**32 - 2], [-1, 2**32 - 1]),
}
_GOOD = [(name, value) for name, (good, _) in _EDGES.items() for value in good]
_BAD = [(name, value) for name, (_, bad) in _EDGES.items() for value in bad]
_NOT_FINITE = [
    (name, float(text)) for name in _EDGES for text in ("nan", "inf", "-inf") if name != "seed"
]


def resolve(**numbers: Any) -> ResolvedSampling:
    return resolve_sampling(Sampling(**numbers), lambda: 5)


@pytest.mark.parametrize(("name", "value"), _GOOD)
def test_a_number_at_its_limit_is_taken(name: str, value: float) -> None:
    assert getattr(resolve(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value"), _BAD + _NOT_FINITE)
def test_a_number_beyond_its_limit_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(**{name: value})
    assert caught.value.parameter == f"sampling.{name}"


def test_what_is_not_asked_takes_the_defaults() -> None:
    assert resolve() == ResolvedSampling(seed=5)


@given(st.integers(0, 2**64))
def test_a_drawn_seed_is_always_in_range(drawn: int) -> None:
    assert 0 <= resolve_sampling(Sampling(), lambda: drawn).seed <= 2**32 - 2


def test_greedy_and_penalties_are_recognised() -> None:
    assert resolve(temperature=0).is_greedy
    assert not resolve().is_greedy
    assert not resolve().has_penalties
    assert resolve(frequency_penalty=0.1).has_penalties
