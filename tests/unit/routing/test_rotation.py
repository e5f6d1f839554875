"""Turns come round as often as the weights say, and evenly."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.models import ModelId
from unified_llm.routing.rotation import Credits, take_turn

WEIGHTS = st.dictionaries(
    st.sampled_from([ModelId(name) for name in "abcde"]), st.integers(1, 6), min_size=1
)


def firsts(weights: dict[ModelId, int], turns: int) -> list[ModelId]:
    had: Credits = {}
    found = []
    for _ in range(turns):
        turn = take_turn(tuple(weights), weights, had)
        had = turn.credits
        found.append(turn.order[0])
    return found


@given(WEIGHTS)
def test_one_round_gives_each_as_many_turns_as_its_weight(weights: dict[ModelId, int]) -> None:
    assert Counter(firsts(weights, sum(weights.values()))) == weights


def test_turns_of_one_are_spread() -> None:
    weights = {ModelId("a"): 5, ModelId("b"): 1, ModelId("c"): 1}
    assert "".join(firsts(weights, 7)) == "aabacaa"


def test_a_target_that_was_away_goes_on_where_it_was() -> None:
    a, b = ModelId("a"), ModelId("b")
    first = take_turn((a, b), {}, {})
    alone = take_turn((b,), {}, first.credits)
    assert alone.order == (b,)
    assert take_turn((a, b), {}, alone.credits).order == (b, a)


def test_nobody_has_no_turn() -> None:
    assert take_turn((), {}, {}).order == ()
