"""Sampling numbers are checked once more, and completed from the defaults."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import Sampling
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.sampling import NUMBERS
from unified_llm.worker.sampling import ResolvedSampling, resolve_sampling


def resolve(vocabulary_size: int = 100, **numbers: Any) -> ResolvedSampling:
    return resolve_sampling(Sampling(**numbers), lambda: 5, vocabulary_size)


def test_what_is_asked_is_kept_and_the_rest_takes_the_defaults() -> None:
    resolved = resolve(top_k=3, logit_bias=((7, 1.0),), ignore_eos=True)
    assert (resolved.top_k, resolved.logit_bias, resolved.ignore_eos) == (3, ((7, 1.0),), True)
    for name, number in NUMBERS.items():
        if name not in ("top_k", "seed"):
            assert getattr(resolved, name) == number.default


def test_a_number_out_of_range_is_refused_here_too() -> None:
    with pytest.raises(InvalidRequest, match="top_k is 2147483648; allowed is 0 to 1000"):
        resolve(top_k=2**31)


@given(st.integers(0, 2**64))
def test_a_drawn_seed_is_always_in_range(drawn: int) -> None:
    seed = resolve_sampling(Sampling(), lambda: drawn, 1).seed
    assert 0 <= seed <= NUMBERS["seed"].most


def test_a_bias_for_a_token_that_the_model_lacks_is_refused_with_the_number() -> None:
    assert resolve(logit_bias=((99, -100.0),)).logit_bias == ((99, -100.0),)
    with pytest.raises(InvalidRequest, match="token 100; the model has 100") as caught:
        resolve(logit_bias=((1, 0.0), (100, 1.0)))
    assert caught.value.parameter == "logit_bias"


def test_a_temperature_that_would_overflow_logits_counts_as_zero() -> None:
    assert resolve(temperature=1e-300).temperature == 0
    assert resolve(temperature=0.001).temperature == 0.001


@pytest.mark.parametrize(
    ("numbers", "window"),
    [
        ({}, 0),
        ({"frequency_penalty": 0.1}, 64),
        ({"repeat_penalty": 1.1, "repeat_last_n": 0}, 0),
        ({"presence_penalty": 1.0, "repeat_last_n": 7}, 7),
        ({"dry_multiplier": 0.8, "dry_penalty_last_n": 9}, 9),
        ({"dry_multiplier": 0.8, "dry_penalty_last_n": 0}, 0),
        ({"dry_multiplier": 0.8, "dry_penalty_last_n": 9, "repeat_penalty": 1.1}, 64),
        ({"mirostat": 2, "repeat_last_n": 9}, 0),
    ],
)
def test_only_as_much_of_the_past_is_looked_at_as_matters(
    numbers: dict[str, Any], window: int
) -> None:
    assert resolve(**numbers).window == window
