"""The area under the curve, on values where it is known."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.prefix_probe import area_under_curve

_times = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=8)


def test_what_is_always_sooner_is_told_apart() -> None:
    assert area_under_curve([1.0, 2.0], [3.0, 4.0, 5.0]) == 1.0
    assert area_under_curve([6.0, 7.0], [3.0, 4.0, 5.0]) == 0.0


def test_what_is_the_same_is_chance() -> None:
    assert area_under_curve([1.0, 2.0], [1.0, 2.0]) == 0.5
    draw = random.Random(1)
    one, other = ([draw.random() for _ in range(2000)] for _ in range(2))
    assert area_under_curve(one, other) == pytest.approx(0.5, abs=0.03)


@given(_times, _times)
def test_it_is_the_share_of_pairs(sooner: list[float], later: list[float]) -> None:
    pairs = [(one < other) + (one == other) / 2 for one in sooner for other in later]
    assert area_under_curve(sooner, later) == pytest.approx(sum(pairs) / len(pairs))
