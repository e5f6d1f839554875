"""Slots: who sits where, what is fed, and that nobody is lost."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from unified_llm.worker.adapter_turns import TURN_TOKENS
from unified_llm.worker.slots import Feed, Remembered, Seat, SlotTable
from unified_llm.worker.state_index import Offer, StateIndex, common_prefix

_CONTEXT = 640  # so that a copy pays from 10 tokens on
_ME, _YOU = "uid:1", "uid:2"
_LAW = "law"  # an adapter


def open_table(*, slots: int, batch_tokens: int = 100) -> SlotTable:
    return SlotTable(slots, batch_tokens, _CONTEXT)


def ask(table: SlotTable, number: int, prompt: Iterable[int], principal: str = _ME) -> None:
    table.append(number, principal, prompt)


def feeds_of(table: SlotTable) -> list[tuple[int, int, int, bool]]:
    return [(f.request_id, f.position, len(f.tokens), f.is_last) for f in table.plan()]


def succeed(table: SlotTable) -> tuple[Feed, ...]:
    feeds = table.plan()
    table.had_step(feeds)
    for feed in feeds:
        table.fed(feed)
    return feeds


def test_a_prompt_is_fed_in_pieces_of_the_budget() -> None:
    table = open_table(slots=1, batch_tokens=4)
    ask(table, 1, range(10))
    assert table.seat() == [Seat(1, 0, 0, None)]
    lengths = []
    while not (feeds := succeed(table))[0].is_last:
        lengths.append(len(feeds[0].tokens))
    assert [*lengths, len(feeds[0].tokens)] == [4, 4, 2]
    assert table.plan() == ()


def test_a_step_can_be_asked_to_be_smaller_and_those_that_came_first_have_it() -> None:
    table = open_table(slots=2, batch_tokens=8)
    ask(table, 1, range(10))
    ask(table, 2, range(20, 30))
    table.seat()
    assert [(feed.request_id, len(feed.tokens)) for feed in table.plan(3)] == [(1, 3)]
    assert [(feed.request_id, len(feed.tokens)) for feed in table.plan(100)] == [(1, 8)]


@pytest.mark.parametrize(("prompt", "expected"), [(6, [6]), (7, [4, 3]), (11, [4, 4, 3])])
def test_the_end_of_a_prompt_comes_along_when_it_is_small(prompt: int, expected: list[int]) -> None:
    table = open_table(slots=1, batch_tokens=8)
    ask(table, 1, range(prompt))
    table.seat()
    fed = []
    while feeds := table.plan(4):
        table.fed(feeds[0])
        fed.append(len(feeds[0].tokens))
    assert fed == expected


def test_the_ends_of_several_prompts_do_not_add_up() -> None:
    table = open_table(slots=4, batch_tokens=100)
    for number in range(4):
        ask(table, number, range(100 * number, 100 * number + 5))
    table.seat()
    assert [len(feed.tokens) for feed in table.plan(8)] == [5, 5]


def test_a_paused_request_is_not_fed_and_keeps_its_slot() -> None:
    table = open_table(slots=2)
    ask(table, 1, [1, 2])
    ask(table, 2, [3, 4])
    table.seat()
    table.pause(1)
    assert [feed.request_id for feed in table.plan()] == [2]
    table.pause(2)
    assert (table.plan(), table.has_work, table.active) == ((), False, 2)
    table.resume(1)
    assert [feed.request_id for feed in table.plan()] == [1]
    table.remove(1)
    ask(table, 1, [5])
    assert table.has_work  # there is room for it
    table.seat()
    assert [feed.request_id for feed in table.plan()] == [1]


def test_nobody_waits_for_the_prompt_of_a_paused_request() -> None:
    table = open_table(slots=2, batch_tokens=50)
    ask(table, 1, range(200))
    table.seat()
    succeed(table)
    ask(table, 2, range(200))
    assert table.seat() == []
    table.pause(1)
    assert [seat.request_id for seat in table.seat()] == [2]


def test_what_generates_is_never_stalled_by_a_long_prompt() -> None:
    table = open_table(slots=2, batch_tokens=4)
    ask(table, 1, [1, 2])
    table.seat()
    succeed(table)
    table.extend(1, 9)
    ask(table, 2, range(100))
    table.seat()
    assert feeds_of(table) == [(1, 2, 1, True), (2, 0, 3, False)]


def test_prompts_share_a_step_in_the_order_their_requests_came() -> None:
    table = open_table(slots=3, batch_tokens=8)
    for number, length in ((1, 5), (2, 5), (3, 5)):
        ask(table, number, range(length), f"uid:{number}")
    table.seat()
    assert feeds_of(table) == [(1, 0, 5, True), (2, 0, 3, False)]


def test_a_step_names_its_slots_in_order_whoever_came_first() -> None:
    """llama.cpp computes together only sequences that follow each other."""
    table = open_table(slots=4)
    for number in (1, 2, 3, 4):
        ask(table, number, [number])
    table.seat()
    for number in (3, 1):
        table.remove(number)
    for number in (5, 6):
        ask(table, number, [number, number])
    assert [seat.slot for seat in table.seat()] == [2, 0]
    assert [feed.slot for feed in table.plan()] == [0, 1, 2, 3]


def test_after_an_aborted_step_the_same_is_fed_again() -> None:
    table = open_table(slots=1, batch_tokens=4)
    ask(table, 1, range(6))
    table.seat()
    succeed(table)
    assert table.plan() == table.plan()
    table.refeed(1)
    assert feeds_of(table) == [(1, 0, 4, False)]


def test_a_freed_slot_goes_to_the_first_who_waits() -> None:
    table = open_table(slots=1, batch_tokens=4)
    for number in (1, 2, 3):
        ask(table, number, [0])
    assert table.seat() == [Seat(1, 0, 0, None)]
    assert table.seat() == []
    assert table.remove(2) is None
    assert table.remove(1) == 0
    assert table.remove(99) is None
    assert table.seat() == [Seat(3, 0, 0, None)]


@pytest.mark.parametrize(("slots", "batch_tokens"), [(0, 4), (5, 4)])
def test_a_step_has_room_for_every_slot(slots: int, batch_tokens: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        SlotTable(slots, batch_tokens, _CONTEXT)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="empty prompt"):
        SlotTable(1, 1, 1).append(1, _ME, [])


def answer(table: SlotTable, number: int, prompt: Iterable[int], principal: str = _ME) -> Seat:
    """Seat and feed a request that ends with its first token; where it sat."""
    ask(table, number, prompt, principal)
    (seat,) = table.seat()
    while table.plan():
        succeed(table)
    table.remove(number)
    return seat


def test_what_goes_on_where_it_ended_takes_the_same_slot_and_is_not_fed_twice() -> None:
    table = open_table(slots=3)
    answer(table, 1, range(50))
    assert answer(table, 2, range(80)) == Seat(2, 0, 50, None)
    assert answer(table, 3, [*range(60), 7]) == Seat(3, 0, 60, None)


def test_the_last_token_of_a_prompt_is_fed_even_if_all_of_it_is_kept() -> None:
    table = open_table(slots=1)
    answer(table, 1, range(50))
    ask(table, 2, range(50))
    assert table.seat() == [Seat(2, 0, 49, None)]
    assert feeds_of(table) == [(2, 49, 1, True)]


def test_what_one_principal_has_fed_spares_another_nothing() -> None:
    table = open_table(slots=1)
    answer(table, 1, range(50))
    assert answer(table, 2, range(50), _YOU) == Seat(2, 0, 0, None)
    assert answer(table, 3, range(50)) == Seat(3, 0, 0, None)


def test_a_conversation_is_not_given_up_for_its_first_words() -> None:
    table = open_table(slots=2)
    answer(table, 1, range(100))
    assert answer(table, 2, [0, 1, 2, *range(500, 550)]) == Seat(2, 1, 0, None)
    assert answer(table, 3, range(120)) == Seat(3, 0, 100, None)


def test_without_an_empty_slot_the_longest_idle_one_is_taken() -> None:
    table = open_table(slots=3)
    for number, first in ((1, 0), (2, 1000), (3, 2000)):
        answer(table, number, range(first, first + 50), f"uid:{number}")
    assert answer(table, 4, range(50), "uid:4").slot == 0
    assert answer(table, 5, range(50), "uid:5").slot == 1
    assert answer(table, 6, range(2000, 2060), "uid:3") == Seat(6, 2, 50, None)


def test_a_long_common_beginning_is_copied_from_a_slot_that_is_kept_or_busy() -> None:
    table = open_table(slots=3)
    answer(table, 1, range(100))
    assert answer(table, 2, [*range(12), *range(500, 550)]) == Seat(2, 1, 12, 0)
    ask(table, 3, range(110))
    ask(table, 4, range(105))
    assert table.seat() == [Seat(3, 0, 100, None), Seat(4, 2, 100, 0)]


def test_who_shares_a_prompt_that_is_being_fed_waits_for_it_and_holds_up_nobody() -> None:
    table = open_table(slots=3, batch_tokens=12)
    ask(table, 1, range(40))
    ask(table, 2, [*range(35), 999])
    ask(table, 3, [*range(35), 999], _YOU)
    assert table.seat() == [Seat(1, 0, 0, None), Seat(3, 1, 0, None)]
    for _ in range(2):
        succeed(table)
        assert table.seat() == []
    succeed(table)
    assert table.seat() == [Seat(2, 2, 35, 0)]


def test_who_waits_for_a_prompt_that_is_given_up_goes_on_from_there() -> None:
    table = open_table(slots=2, batch_tokens=5)
    ask(table, 1, range(40))
    ask(table, 2, range(40))
    assert len(table.seat()) == 1
    succeed(table)
    table.remove(1)
    assert table.seat() == [Seat(2, 0, 5, None)]


def test_what_was_lost_is_not_kept() -> None:
    table = open_table(slots=1)
    ask(table, 1, range(50))
    table.seat()
    succeed(table)
    table.refeed(1)
    table.remove(1)
    assert answer(table, 2, range(50)) == Seat(2, 0, 0, None)


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_a_common_prefix_is_equal_and_as_long_as_can_be(one: list[int], other: list[int]) -> None:
    length = common_prefix(one, other)
    assert one[:length] == other[:length]
    assert length == min(len(one), len(other)) or one[length] != other[length]


def open_table_with(*states: Sequence[int], slots: int) -> SlotTable:
    """A table of somebody for whom these states are kept, numbered from 0."""
    kept = StateIndex()
    for number, tokens in enumerate(states):
        kept.add(number, _ME, tokens)
    return SlotTable(slots, 100, _CONTEXT, kept)


def test_a_kept_state_is_restored_where_it_spares_more_than_any_slot() -> None:
    table = open_table_with(range(40), range(60), slots=2)
    seat = answer(table, 1, range(100))
    assert (seat.cached, seat.source, seat.kept) == (60, None, Offer(1, 60, 60))
    assert answer(table, 2, range(120)).kept is None  # the slot holds more now
    assert answer(table, 3, range(50), _YOU).kept is None


def test_a_kept_state_that_spares_a_few_tokens_is_not_worth_it() -> None:
    table = open_table_with(range(9), slots=1)
    assert answer(table, 1, range(50)) == Seat(1, 0, 0, None)


def test_what_is_pushed_out_of_its_slot_is_named_before_it_is_lost() -> None:
    table = open_table_with(slots=1)
    assert answer(table, 1, range(50)).pushed_out is None
    lost = answer(table, 2, range(500, 550)).pushed_out
    assert lost == Remembered(0, _ME, list(range(50)))
    assert answer(table, 3, range(500, 505), _YOU).pushed_out is not None
    assert answer(table, 4, range(50)).pushed_out is None  # five tokens are soon read again


def test_a_conversation_that_goes_on_in_its_slot_pushes_nothing_out() -> None:
    table = open_table_with(slots=1)
    answer(table, 1, range(50))
    assert answer(table, 2, [*range(40), 99, 98]).pushed_out is None


def test_what_the_slots_hold_is_told_latest_first_and_only_what_has_been_fed() -> None:
    table = open_table_with(slots=3)
    answer(table, 1, range(50))
    answer(table, 2, range(500, 560), _YOU)
    ask(table, 3, range(900, 1050))
    table.seat()
    succeed(table)
    assert table.remembered() == [
        Remembered(2, _ME, list(range(900, 1000))),
        Remembered(1, _YOU, list(range(500, 560))),
        Remembered(0, _ME, list(range(50))),
    ]


def test_what_one_adapter_has_computed_spares_another_nothing() -> None:
    table = open_table(slots=2)
    answer(table, 1, range(50))
    table.append(2, _ME, range(60), _LAW)
    assert table.seat() == [Seat(2, 1, 0, None)]
    while table.plan():
        succeed(table)
    table.remove(2)
    table.append(3, _ME, range(70), _LAW)
    assert table.seat() == [Seat(3, 1, 60, None)]
    assert answer(table, 4, range(70)) == Seat(4, 0, 50, None)
    assert {(each.slot, each.adapter) for each in table.remembered()} == {(0, None), (1, _LAW)}


def test_nobody_waits_for_a_prompt_that_is_fed_with_another_adapter() -> None:
    table = open_table(slots=2, batch_tokens=50)
    ask(table, 1, range(200))
    table.append(2, _ME, range(200), _LAW)
    assert [seat.request_id for seat in table.seat()] == [1, 2]


def test_a_kept_state_of_one_adapter_serves_no_other() -> None:
    kept = StateIndex()
    kept.add(7, _ME, list(range(50)), _LAW)
    table = SlotTable(2, 100, _CONTEXT, kept)
    ask(table, 1, range(60))
    table.append(2, _ME, range(60), _LAW)
    assert [(seat.cached, seat.kept) for seat in table.seat()] == [
        (0, None),
        (50, Offer(7, 50, 50)),
    ]


def test_vectors_of_a_picture_are_fed_apart_from_tokens() -> None:
    table = open_table(slots=1, batch_tokens=3)
    ask(table, 1, [1, 2, -1, -2, -3, -4, 3])
    table.seat()
    fed = []
    while feeds := succeed(table):
        fed += [(feed.position, feed.tokens, feed.is_last) for feed in feeds]
        if feeds[0].is_last:
            break
    assert fed == [
        (0, (1, 2), False), (2, (-1, -2, -3), False), (5, (-4,), False), (6, (3,), True),
    ]  # fmt: skip


def test_a_step_is_for_one_adapter_and_they_take_turns() -> None:
    table = open_table(slots=3)
    ask(table, 1, [1])
    table.append(2, _ME, [2], _LAW)
    table.append(3, _YOU, [3], _LAW)
    table.seat()
    order = []
    for _ in range(3 * TURN_TOKENS):
        feeds = succeed(table)
        order.append({feed.request_id for feed in feeds})
        assert len({feed.adapter for feed in feeds}) == 1
        for feed in feeds:
            table.extend(feed.request_id, 9)
    turn = TURN_TOKENS
    assert order == [{1}] * turn + [{2, 3}] * turn + [{1}] * turn
    assert set(table.generating()) == {2, 3}, "those of the next step, and nobody else"


class SlotsMachine(RuleBasedStateMachine):
    """Requests of two principals, some with an adapter, come, are fed, generate, are aborted and
    leave, in any order.

    `memory` is what a model would remember, and `owner` whose it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable(slots=3, batch_tokens=5, context_tokens=128)
        self.came = 0
        self.owners: dict[int, tuple[str, str | None]] = {}
        self.waiting: list[int] = []
        self.seated: dict[int, int] = {}
        self.tokens: dict[int, list[int]] = {}
        self.memory: dict[int, list[int]] = {slot: [] for slot in range(3)}
        self.owner: dict[int, tuple[str, str | None]] = {}
        self.ended: list[int] = []

    @rule(
        principal=st.sampled_from((_ME, _YOU)),
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=12),
        adapter=st.sampled_from((None, None, _LAW)),
    )
    def a_request_comes(self, principal: str, prompt: Sequence[int], adapter: str | None) -> None:
        self.came += 1
        self.owners[self.came] = principal, adapter
        self.tokens[self.came] = list(prompt)
        self.table.append(self.came, principal, prompt, adapter)
        self.waiting.append(self.came)

    @rule()
    def seats_are_given(self) -> None:
        seats = self.table.seat()
        order = [self.waiting.index(seat.request_id) for seat in seats]
        assert order == sorted(order)
        for seat in seats:
            self.waiting.remove(seat.request_id)
            assert seat.slot not in self.seated.values()
            self.seated[seat.request_id] = seat.slot
            self.take_memory(seat)

    def take_memory(self, seat: Seat) -> None:
        owner, prompt = self.owners[seat.request_id], self.tokens[seat.request_id]
        source = seat.slot if seat.source is None else seat.source
        assert seat.cached < len(prompt)
        assert not seat.cached or self.owner[source] == owner
        assert self.memory[source][: seat.cached] == prompt[: seat.cached]
        self.memory[seat.slot] = prompt[: seat.cached]
        self.owner[seat.slot] = owner

    @rule(new=st.integers(0, 1))
    def a_step_succeeds(self, new: int) -> None:
        feeds = self.table.plan()
        if feeds:
            self.table.had_step(feeds)
        for feed in feeds:
            assert self.seated[feed.request_id] == feed.slot
            assert len(self.memory[feed.slot]) == feed.position
            self.memory[feed.slot] += feed.tokens
            self.table.fed(feed)
            if feed.is_last:
                assert self.memory[feed.slot] == self.tokens[feed.request_id]
                self.tokens[feed.request_id].append(new)
                self.table.extend(feed.request_id, new)

    @precondition(lambda self: self.seated)
    @rule(data=st.data())
    def a_memory_is_lost(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.seated)))
        self.memory[self.seated[number]] = []
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

    @rule()
    def whoever_waits_is_seated_in_the_end(self) -> None:
        for _ in range(1000):
            self.seats_are_given()
            if not self.waiting:
                return
            self.a_step_succeeds(0)
            for number in list(self.seated):
                if len(self.tokens[number]) > 20:
                    self.table.remove(number)
                    self.ended.append(number)
                    del self.seated[number]
        raise AssertionError(f"{self.waiting} still wait")

    @invariant()
    def nobody_is_lost(self) -> None:
        assert self.table.active == len(self.seated)
        assert self.table.waiting == len(self.waiting)
        assert self.came == self.table.active + self.table.waiting + len(self.ended)

    @invariant()
    def a_step_is_within_its_budget_and_feeds_all_that_generate(self) -> None:
        feeds = self.table.plan()
        assert sum(len(feed.tokens) for feed in feeds) <= 5
        turns = {self.owners[feed.request_id][1] for feed in feeds}
        assert turns == {feed.adapter for feed in feeds}
        assert len(turns) <= 1
        one_left = {
            number
            for number, slot in self.seated.items()
            if len(self.tokens[number]) - len(self.memory[slot]) == 1
            and self.owners[number][1] in turns
        }
        assert one_left <= {feed.request_id for feed in feeds}


TestSlotsMachine = SlotsMachine.TestCase
TestSlotsMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
