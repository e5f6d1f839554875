from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.units import Instant
from unified_llm.scheduler.effects import Ticket
from unified_llm.scheduler.queue import FairQueue, Waiter


def queue_of(*principals: str) -> FairQueue:
    queue = FairQueue()
    for number, principal in enumerate(principals):
        queue.add(Waiter(Ticket(number), principal, Instant(0)))
    return queue


def test_principals_take_turns_and_each_is_served_in_its_own_order() -> None:
    queue = queue_of("anna", "anna", "anna", "bert", "carl", "bert")
    assert [queue.take(1.0).ticket for _ in range(6)] == [0, 3, 4, 1, 5, 2]


def test_an_empty_queue_has_nobody_to_take() -> None:
    with pytest.raises(KeyError):
        FairQueue().take(1.0)


def test_the_crowd_makes_place_and_nobody_else() -> None:
    queue = queue_of("anna", "bert", "anna", "anna")
    displaced = queue.displaced_by("bert")
    assert displaced is not None
    assert displaced.ticket == 3
    assert queue.displaced_by("anna") is None
    assert FairQueue().displaced_by("anna") is None


@given(st.lists(st.sampled_from("abcd")), st.data())
def test_all_who_are_not_removed_are_taken_once_and_nobody_waits_two_rounds(
    principals: list[str], data: st.DataObject
) -> None:
    queue = queue_of(*principals)
    tickets = range(len(principals))
    removed = data.draw(st.sets(st.sampled_from(tickets)) if principals else st.just(set[int]()))
    for number in removed:
        queue.remove(Ticket(number))
    taken = [queue.take(1.0) for _ in range(len(queue))]
    assert {waiter.ticket for waiter in taken} == set(tickets) - removed
    for principal in set("abcd"):
        own = [place for place, waiter in enumerate(taken) if waiter.principal == principal]
        assert all(later - earlier <= 4 for earlier, later in pairwise(own))
        order = [taken[place].ticket for place in own]
        assert order == sorted(order)
