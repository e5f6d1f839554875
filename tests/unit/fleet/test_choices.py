"""Several chats become one, and none of them outlives it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.timers import settle
from tests.unit.fleet.asking import CALLER, request
from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnded,
    Finished,
    FinishReason,
    Sampling,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from unified_llm.domain.errors import QueueFull, UnifiedLlmError, WorkerDied
from unified_llm.domain.sampling import MAX_SEED
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.fleet.choices import ChatContext, choice_of, open_side_by_side

Step = ChatEvent | UnifiedLlmError | asyncio.Event


def end(completion: int, *, cached: int = 0, reason: FinishReason = FinishReason.STOP) -> Finished:
    usage = Usage(Tokens(7), Tokens(completion), Tokens(cached))
    return Finished(reason, usage, Seconds(completion), Seconds(9))


class Chats:
    """One backend for each choice."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.backends = [FakeBackend(script) for script in scripts]

    def contexts(self) -> list[ChatContext]:
        return [each.chat(request(), CALLER) for each in self.backends]

    @property
    def open(self) -> list[int]:
        return [each.open for each in self.backends]


async def heard(chats: Chats) -> list[ChatEvent]:
    async with open_side_by_side(chats.contexts(), FakeClock()) as events:
        return [event async for event in events]


async def test_each_event_says_whose_it_is_and_each_choice_ends_once() -> None:
    calls: list[Step] = [ToolCallDelta(0, "id", "f"), end(5, reason=FinishReason.TOOL_CALLS)]
    chats = Chats([TextDelta("a"), TextDelta("b"), end(2)], calls)
    found = await heard(chats)
    assert [event for event in found if event.choice == 0][:2] == [TextDelta("a"), TextDelta("b")]
    assert ToolCallDelta(0, "id", "f", choice=1) in found
    last = found[-1]
    assert isinstance(last, Finished)
    ended = {last.choice: last.reason}
    ended |= {each.choice: each.reason for each in found if isinstance(each, ChoiceEnded)}
    assert ended == {0: FinishReason.STOP, 1: FinishReason.TOOL_CALLS}
    assert chats.open == [0, 0]


async def test_the_prompt_counts_once_and_the_answers_together() -> None:
    *_, last = await heard(Chats([end(2)], [end(3, cached=6)], [end(4, cached=6)]))
    assert isinstance(last, Finished)
    assert last.usage == Usage(Tokens(7), Tokens(9), Tokens(0))
    assert last.first_token == Seconds(2)


async def test_unknown_usage_of_one_is_unknown_usage() -> None:
    *_, last = await heard(Chats([end(2)], [Finished(FinishReason.STOP, None)]))
    assert isinstance(last, Finished)
    assert last.usage is None


async def test_thoughts_and_drafted_tokens_of_all_are_counted() -> None:
    usage = Usage(Tokens(7), Tokens(3), reasoning_tokens=Tokens(2), accepted_tokens=Tokens(1))
    *_, last = await heard(Chats(*[[Finished(FinishReason.STOP, usage)]] * 2))
    assert isinstance(last, Finished)
    assert last.usage == Usage(
        Tokens(7), Tokens(6), reasoning_tokens=Tokens(4), accepted_tokens=Tokens(2)
    )


async def test_the_failure_of_one_ends_all_as_itself() -> None:
    chats = Chats([TextDelta("a"), asyncio.Event()], [WorkerDied("It died.")])
    with pytest.raises(WorkerDied, match="It died"):
        await heard(chats)
    assert chats.open == [0, 0]


async def test_a_refusal_of_the_first_comes_on_entry_and_the_others_are_not_asked() -> None:
    chats = Chats([end(1)], [end(1)])
    chats.backends[0].refusal = QueueFull("32 wait already.")
    with pytest.raises(QueueFull):
        async with open_side_by_side(chats.contexts(), FakeClock()):
            pytest.fail("entered")
    assert chats.backends[1].asked == []


async def test_a_refusal_of_another_ends_the_answer() -> None:
    chats = Chats([TextDelta("a"), asyncio.Event()], [end(1)])
    chats.backends[1].refusal = QueueFull("32 wait already.")
    with pytest.raises(QueueFull):
        await heard(chats)
    assert chats.open == [0, 0]


async def test_leaving_early_leaves_all() -> None:
    chats = Chats([TextDelta("a"), asyncio.Event()], [TextDelta("b"), asyncio.Event()])
    async with open_side_by_side(chats.contexts(), FakeClock()) as events:
        await anext(events)
        await settle()
        assert chats.open == [1, 1]
    assert chats.open == [0, 0]


async def test_an_error_of_the_reader_is_not_wrapped() -> None:
    chats = Chats([asyncio.Event()], [asyncio.Event()])
    with pytest.raises(KeyError):
        async with open_side_by_side(chats.contexts(), FakeClock()):
            raise KeyError("the reader's own")
    assert chats.open == [0, 0]


async def test_a_cancelled_reader_leaves_all() -> None:
    chats = Chats([asyncio.Event()], [asyncio.Event()])
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(heard(chats))
        await settle()
        assert chats.open == [1, 1]
        reading.cancel()
    assert reading.cancelled()
    assert chats.open == [0, 0]


async def test_one_slot_is_enough_for_all_one_after_the_other() -> None:
    slot, most, held = asyncio.Lock(), 0, 0

    @asynccontextmanager
    async def chat(backend: FakeBackend) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        nonlocal most, held
        async with slot, backend.chat(request(), CALLER) as events:
            held += 1
            most = max(most, held)
            yield events
            held -= 1

    script: list[Step] = [TextDelta("a"), end(1)]
    chats = Chats(*[script] * 4)
    contexts = [chat(each) for each in chats.backends]
    async with open_side_by_side(contexts, FakeClock()) as events:
        found = [event async for event in events]
    assert sum(isinstance(each, ChoiceEnded | Finished) for each in found) == 4
    assert most == 1


async def test_what_is_not_read_is_not_computed() -> None:
    computed = 0

    @asynccontextmanager
    async def chat() -> AsyncIterator[AsyncIterator[ChatEvent]]:
        async def events() -> AsyncIterator[ChatEvent]:
            nonlocal computed
            while True:
                computed += 1
                yield TextDelta("a")

        yield events()

    async with open_side_by_side([chat(), chat()], FakeClock()) as events:
        await settle()
        assert computed <= 3
        await anext(events)
        await settle()
        assert computed <= 4


async def test_a_chat_that_breaks_off_ends_the_events() -> None:
    found = await heard(Chats([TextDelta("a")], [asyncio.Event()]))
    assert not any(isinstance(each, Finished) for each in found)


def test_the_first_choice_is_the_request_and_the_others_have_seeds_of_their_own() -> None:
    asked = ChatRequest(
        request().model, request().messages, sampling=Sampling(seed=MAX_SEED - 1), choices=4
    )
    parts = [choice_of(asked, index) for index in range(4)]
    assert [each.sampling.seed for each in parts] == [MAX_SEED - 1, MAX_SEED, 0, 1]
    assert {each.choices for each in parts} == {1}
    assert choice_of(request(), 2) == request()
