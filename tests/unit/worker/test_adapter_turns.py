"""Turns of adapters: few steps for each, and nobody is left out."""

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.worker.adapter_turns import TURN_TOKENS, AdapterTurns

_NAMES = (None, "law", "poetry")


def serve(turns: AdapterTurns, *wanting: str | None, tokens: int = 1) -> str | None:
    """One step for whoever is next."""
    chosen = turns.next_of(wanting)
    turns.had(chosen, tokens)
    return chosen


def test_a_turn_is_several_steps_of_answers() -> None:
    turns = AdapterTurns()
    served = [serve(turns, None, "law") for _ in range(3 * TURN_TOKENS)]
    assert served == [None] * TURN_TOKENS + ["law"] * TURN_TOKENS + [None] * TURN_TOKENS


def test_a_piece_of_a_prompt_is_a_turn_of_its_own() -> None:
    turns = AdapterTurns()
    assert [serve(turns, "law", "poetry", tokens=512) for _ in range(4)] == [
        *("law", "poetry", "law", "poetry")
    ]


def test_who_is_alone_has_turn_after_turn() -> None:
    turns = AdapterTurns()
    assert {serve(turns, "law") for _ in range(5 * TURN_TOKENS)} == {"law"}
    assert serve(turns, "law", "poetry") == "poetry"


def test_a_turn_that_is_not_used_to_its_end_is_over() -> None:
    turns = AdapterTurns()
    serve(turns, "law", "poetry")
    serve(turns, "poetry")
    assert serve(turns, "law", "poetry", None) == "poetry"
    for _ in range(TURN_TOKENS - 2):
        assert serve(turns, "law", "poetry") == "poetry"
    assert serve(turns, "law", "poetry") == "law"


def test_asking_changes_nothing() -> None:
    turns = AdapterTurns()
    serve(turns, "law")
    assert [turns.next_of(["poetry", "law"]) for _ in range(3)] == ["law"] * 3


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(_NAMES), min_size=1), st.integers(1, 600)), max_size=120
    )
)
def test_who_wants_a_step_waits_for_one_turn_of_each_other_at_most(
    history: list[tuple[set[str | None], int]],
) -> None:
    turns = AdapterTurns()
    waited = dict.fromkeys(_NAMES, 0)
    for wanting, tokens in history:
        chosen = turns.next_of(sorted(wanting, key=str))
        assert chosen in wanting
        turns.had(chosen, tokens)
        for each in _NAMES:
            waited[each] = waited[each] + 1 if each in wanting and each != chosen else 0
            assert waited[each] <= TURN_TOKENS * (len(_NAMES) - 1)
