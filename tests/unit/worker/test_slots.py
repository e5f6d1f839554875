"""Slots: who sits where, what is fed, and that nobody is lost."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from unified_llm.worker.slots import Feed, SlotTable


def feeds_of(table: SlotTable) -> list[tuple[int, int, int, bool]]:
    return [(f.request_id, f.position, len(f.tokens), f.is_last) for f in table.plan()]


def succeed(table: SlotTable) -> tuple[Feed, ...]:
    feeds = table.plan()
    for feed in feeds:
        table.fed(feed)
    return feeds


def test_a_prompt_is_fed_in_pieces_of_the_budget() -> None:
    table = SlotTable(slots=1, batch_tokens=4)
    table.append(1, range(10))
    assert table.seat() == [(1, 0)]
    lengths = []
    while not (feeds := succeed(table))[0].is_last:
        lengths.append(len(feeds[0].tokens))
    assert [*lengths, len(feeds[0].tokens)] == [4, 4, 2]
    assert table.plan() == ()


def test_what_generates_is_never_stalled_by_a_long_prompt() -> None:
    table = SlotTable(slots=2, batch_tokens=4)
    table.append(1, [1, 2])
    table.seat()
    succeed(table)
    table.extend(1, 9)
    table.append(2, range(100))
    table.seat()
    assert feeds_of(table) == [(1, 2, 1, True), (2, 0, 3, False)]


def test_prompts_share_a_step_in_the_order_their_requests_came() -> None:
    table = SlotTable(slots=3, batch_tokens=8)
    for number, length in ((1, 5), (2, 5), (3, 5)):
        table.append(number, range(length))
    table.seat()
    assert feeds_of(table) == [(1, 0, 5, True), (2, 0, 3, False)]


def test_after_an_aborted_step_the_same_is_fed_again() -> None:
    table = SlotTable(slots=1, batch_tokens=4)
    table.append(1, range(6))
    table.seat()
    succeed(table)
    assert table.plan() == table.plan()
    table.refeed(1)
    assert feeds_of(table) == [(1, 0, 4, False)]


def test_a_freed_slot_goes_to_the_first_who_waits() -> None:
    table = SlotTable(slots=1, batch_tokens=4)
    for number in (1, 2, 3):
        table.append(number, [0])
    assert table.seat() == [(1, 0)]
    assert table.seat() == []
    assert table.remove(2) is None
    assert table.remove(1) == 0
    assert table.remove(99) is None
    assert table.seat() == [(3, 0)]


@pytest.mark.parametrize(("slots", "batch_tokens"), [(0, 4), (5, 4)])
def test_a_step_has_room_for_every_slot(slots: int, batch_tokens: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        SlotTable(slots, batch_tokens)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="empty prompt"):
        SlotTable(1, 1).append(1, [])


class SlotsMachine(RuleBasedStateMachine):
    """Requests come, are fed, generate, are aborted and leave, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable(slots=3, batch_tokens=5)
        self.came = 0
        self.waiting: list[int] = []
        self.seated: dict[int, int] = {}
        self.tokens: dict[int, list[int]] = {}
        self.memory: dict[int, list[int]] = {}
        self.ended: list[int] = []

    @rule(length=st.integers(1, 12))
    def a_request_comes(self, length: int) -> None:
        self.came += 1
        self.tokens[self.came] = list(range(self.came * 1000, self.came * 1000 + length))
        self.table.append(self.came, self.tokens[self.came])
        self.waiting.append(self.came)

    @rule()
    def seats_are_given(self) -> None:
        for number, slot in self.table.seat():
            assert number == self.waiting.pop(0)
            assert slot not in self.seated.values()
            self.seated[number] = slot
            self.memory[number] = []
        assert len(self.seated) == 3 or not self.waiting

    @rule(new=st.integers(0, 99))
    def a_step_succeeds(self, new: int) -> None:
        for feed in self.table.plan():
            assert self.seated[feed.request_id] == feed.slot
            assert len(self.memory[feed.request_id]) == feed.position
            self.memory[feed.request_id] += feed.tokens
            self.table.fed(feed)
            if feed.is_last:
                assert self.memory[feed.request_id] == self.tokens[feed.request_id]
                self.tokens[feed.request_id].append(new)
                self.table.extend(feed.request_id, new)

    @precondition(lambda self: self.seated)
    @rule(data=st.data())
    def a_memory_is_lost(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.seated)))
        self.memory[number] = []
        self.table.refeed(number)

    @precondition(lambda self: self.seated or self.waiting)
    @rule(data=st.data())
    def a_request_leaves(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted([*self.seated, *self.waiting])))
        assert self.table.remove(number) == self.seated.pop(number, None)
        if number in self.waiting:
            self.waiting.remove(number)
        assert number not in self.ended
        self.ended.append(number)

    @invariant()
    def nobody_is_lost(self) -> None:
        assert self.table.active == len(self.seated)
        assert self.table.waiting == len(self.waiting)
        assert self.came == self.table.active + self.table.waiting + len(self.ended)

    @invariant()
    def a_step_is_within_its_budget_and_feeds_all_that_generate(self) -> None:
        feeds = self.table.plan()
        assert sum(len(feed.tokens) for feed in feeds) <= 5
        one_left = {
            number
            for number in self.seated
            if len(self.tokens[number]) - len(self.memory[number]) == 1
        }
        assert one_left <= {feed.request_id for feed in feeds}


TestSlotsMachine = SlotsMachine.TestCase
TestSlotsMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
