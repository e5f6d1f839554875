"""Which kept state serves a prompt."""

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.worker.state_index import Offer, StateIndex, common_prefix

_ME, _YOU = "uid:1", "uid:2"
_tokens = st.lists(st.integers(0, 1), min_size=1, max_size=12)
_states = st.lists(st.tuples(st.sampled_from((_ME, _YOU)), _tokens), max_size=8)


def index_of(*states: tuple[str, list[int]]) -> StateIndex:
    index = StateIndex()
    for number, (principal, tokens) in enumerate(states):
        index.add(number, principal, tokens)
    return index


def test_the_longest_common_beginning_is_offered() -> None:
    index = index_of((_ME, [1, 2, 3, 9]), (_ME, [1, 2, 3, 4, 5, 6, 7]), (_YOU, [1, 2, 3, 4, 5]))
    assert index.best(_ME, [1, 2, 3, 4, 5]) == Offer(1, 4, 7)
    assert index.best(_YOU, [1, 2, 3, 4, 5, 6]) == Offer(2, 5, 5)
    assert index.best("uid:3", [1, 2]) is None


def test_a_state_serves_and_replaces_only_those_of_its_adapter() -> None:
    index = index_of((_ME, [1, 2]))
    assert index.add(7, _ME, [1, 2, 3], "law") == []
    assert index.best(_ME, [1, 2, 3, 4]) == Offer(0, 2, 2)
    assert index.best(_ME, [1, 2, 3, 4], "law") == Offer(7, 3, 3)
    assert index.covers(_ME, [1, 2, 3], "law")
    assert not index.covers(_ME, [1, 2, 3])


def test_what_goes_on_from_most_of_a_state_is_the_same_conversation() -> None:
    assert Offer(1, shared=5, tokens=10).is_same_conversation
    assert not Offer(1, shared=4, tokens=10).is_same_conversation


def test_a_state_that_goes_further_makes_the_one_it_begins_with_needless() -> None:
    index = index_of((_ME, [1, 2]), (_ME, [1, 3]), (_YOU, [1]))
    assert index.add(7, _ME, [1, 2, 3]) == [0]
    assert len(index) == 3
    assert index.covers(_ME, [1, 2, 3])
    assert index.covers(_ME, [1, 2])
    assert not index.covers(_YOU, [1, 2])


def test_those_of_no_use_for_longest_are_the_oldest() -> None:
    index = index_of((_ME, [1]), (_ME, [2]), (_ME, [3]))
    assert index.oldest() == 0
    index.touch(0)
    assert index.oldest() == 1
    index.remove(1)
    index.remove(1)
    assert index.oldest() == 2


@given(_states, _tokens)
def test_no_state_of_the_same_principal_would_have_spared_more(
    states: list[tuple[str, list[int]]], prompt: list[int]
) -> None:
    offer = index_of(*states).best(_ME, prompt)
    mine = [common_prefix(tokens, prompt[:-1]) for who, tokens in states if who == _ME]
    assert (offer.shared if offer else None) == max(mine, default=None)
    if offer is not None:
        who, tokens = states[offer.state]
        assert who == _ME
        assert tokens[: offer.shared] == prompt[: offer.shared]
        assert offer.shared < len(prompt)
