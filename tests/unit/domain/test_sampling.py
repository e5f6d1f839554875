"""Ranges of sampling numbers, and what excludes what."""

import math
from dataclasses import fields
from typing import Any

import pytest

from unified_llm.domain.chat import Sampling
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.sampling import MAX_BIASES, NUMBERS, ensure_sane_sampling

_EDGES: dict[str, tuple[list[Any], list[Any]]] = {
    "temperature": ([0, 2.0], [-0.001, 2.001]),
    "top_p": ([1e-9, 1], [0, 1.001, -1]),
    "top_k": ([0, 1000], [-1, 1001, 2**31, 2**63]),
    "min_p": ([0, 1], [-0.001, 1.001]),
    "typical_p": ([1e-9, 1], [0, 1.001]),
    "repeat_penalty": ([0.01, 2], [0, 0.009, 2.001]),
    "repeat_last_n": ([0, 4096], [-1, 4097]),
    "frequency_penalty": ([-2, 2], [-2.001, 2.001]),
    "presence_penalty": ([-2, 2], [-2.001, 2.001]),
    "dry_multiplier": ([0, 100], [-0.1, 101]),
    "dry_base": ([1, 10], [0.99, 10.01]),
    "dry_allowed_length": ([0, 4096], [-1, 4097, -(2**31)]),
    "dry_penalty_last_n": ([0, 4096], [-1, 4097]),
    "xtc_probability": ([0, 1], [-0.1, 1.1]),
    "xtc_threshold": ([0, 1], [-0.1, 1.1]),
    "mirostat": ([0, 1, 2], [-1, 3]),
    "mirostat_tau": ([0, 10], [-0.1, 10.1]),
    "mirostat_eta": ([0, 1], [-0.1, 1.1]),
    "seed": ([0, 2**32 - 2], [-1, 2**32 - 1]),
}
_GOOD = [(name, value) for name, (good, _) in _EDGES.items() for value in good]
_BAD = [(name, value) for name, (_, bad) in _EDGES.items() for value in bad]
_NOT_FINITE = [(name, float(text)) for name in _EDGES for text in ("nan", "inf", "-inf")]


def check(**numbers: Any) -> None:
    ensure_sane_sampling(Sampling(**numbers))


def refusal(**numbers: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check(**numbers)
    return caught.value


def test_every_number_has_a_range_and_edges_here() -> None:
    names = {field.name for field in fields(Sampling)} - {"logit_bias", "ignore_eos"}
    assert names == set(NUMBERS) == set(_EDGES)


def test_every_default_is_in_its_range() -> None:
    for number in NUMBERS.values():
        assert number.default is None or number.allows(number.default)


@pytest.mark.parametrize(("name", "value"), _GOOD)
def test_a_number_at_its_limit_is_taken(name: str, value: float) -> None:
    check(**{name: value})


@pytest.mark.parametrize(("name", "value"), _BAD + _NOT_FINITE)
def test_a_number_beyond_its_limit_is_refused_with_the_range(name: str, value: float) -> None:
    error = refusal(**{name: value})
    assert error.parameter == name
    assert f"allowed is {NUMBERS[name]}." in error.message


@pytest.mark.parametrize(
    "biases",
    [
        ((1, 100.5),),
        ((1, math.nan),),
        ((1, -math.inf),),
        ((-1, 1.0),),
        ((2**31, 1.0),),
        tuple((token, 0.0) for token in range(MAX_BIASES + 1)),
    ],
)
def test_a_bias_out_of_range_is_refused(biases: tuple[tuple[int, float], ...]) -> None:
    assert refusal(logit_bias=biases).parameter == "logit_bias"


def test_as_many_biases_as_allowed_are_taken() -> None:
    check(logit_bias=tuple((token, -100.0) for token in range(MAX_BIASES)))


def test_what_mirostat_takes_the_place_of_is_refused_beside_it_unless_it_is_off() -> None:
    error = refusal(mirostat=2, top_p=0.9)
    assert error.parameter == "top_p"
    assert "top_p is off at 1" in error.hint
    check(mirostat=2, top_p=1.0, top_k=0, repeat_penalty=1.0, temperature=0.7)
    check(mirostat=0, top_p=0.9)
