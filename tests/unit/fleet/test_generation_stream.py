import asyncio

import pytest

from tests.fakes.timers import settle
from unified_llm.domain.chat import FinishReason
from unified_llm.domain.errors import RequestTimedOut, WorkerDied
from unified_llm.fleet.generation_stream import (
    MAX_UNREAD,
    PAUSE_AT,
    RESUME_AT,
    GenerationStream,
)
from unified_llm.worker.protocol import Chance, Delta, Done, Score


def delta(text: str) -> Delta:
    return Delta(id=1, text=text)


def done() -> Done:
    return Done(
        id=1, reason=FinishReason.STOP, prompt_tokens=1, completion_tokens=1, cached_tokens=0
    )


async def test_what_came_before_the_death_is_still_read() -> None:
    stream = GenerationStream(1, b"")
    stream.put(delta("a"))
    stream.lose_worker(WorkerDied("gone"))
    assert await stream.next_frame() == delta("a")
    for _ in range(2):
        with pytest.raises(WorkerDied):
            await stream.next_frame()


async def test_a_death_after_the_end_changes_nothing() -> None:
    stream = GenerationStream(1, b"")
    stream.put(done())
    stream.lose_worker(WorkerDied("gone"))
    assert await stream.next_frame() == done()


async def test_a_waiting_reader_is_woken_by_a_frame_and_by_a_death() -> None:
    stream = GenerationStream(1, b"")
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(stream.next_frame())
        await settle()
        stream.put(delta("a"))
        assert await reading == delta("a")
    stream.lose_worker(WorkerDied("gone"))
    with pytest.raises(WorkerDied):
        await stream.next_frame()


def overfull_and_ended(stream: GenerationStream) -> tuple[bool, bool]:
    return stream.is_overfull, stream.has_ended


async def test_a_reader_that_does_not_read_is_cut_off_and_what_comes_later_is_dropped() -> None:
    stream = GenerationStream(1, b"")
    stream.put(delta("x" * MAX_UNREAD))
    assert overfull_and_ended(stream) == (False, False)
    stream.put(delta("x"))
    assert overfull_and_ended(stream) == (True, False)
    stream.cut_off()
    assert overfull_and_ended(stream) == (False, False)
    stream.put(delta("more"))
    stream.put(done())
    assert overfull_and_ended(stream) == (False, True)
    with pytest.raises(RequestTimedOut):
        await stream.next_frame()


async def test_what_has_been_read_does_not_count_as_unread() -> None:
    stream = GenerationStream(1, b"")
    for _ in range(10):
        stream.put(delta("x" * (MAX_UNREAD // 2)))
        await stream.next_frame()
    assert not stream.is_overfull


async def test_a_slow_reader_pauses_once_and_catching_up_resumes_once() -> None:
    resumed: list[bool] = []
    stream = GenerationStream(1, b"", on_drained=lambda: resumed.append(True))
    pieces = [delta("x" * 1024)] * 40
    paused = []
    for piece in pieces:
        stream.put(piece)
        paused.append(stream.pause_if_full())
    assert paused.count(True) == 1
    assert paused.index(True) == PAUSE_AT // 1024
    for _ in pieces:
        assert not resumed
        if stream.unread - 1024 <= RESUME_AT:
            break
        await stream.next_frame()
    await stream.next_frame()
    assert resumed == [True]
    while stream.unread:
        await stream.next_frame()
    assert resumed == [True]
    assert not stream.pause_if_full()


async def test_an_answer_that_has_ended_is_not_paused() -> None:
    stream = GenerationStream(1, b"")
    stream.put(delta("x" * (PAUSE_AT + 1)))
    stream.put(done())
    assert not stream.pause_if_full()


async def test_chances_count_for_what_they_take() -> None:
    stream = GenerationStream(1, b"")
    chance = Chance(text="a", data=b"a", logprob=-1.0)
    stream.put(Delta(id=1, text="a", scores=(Score(chosen=chance, top=(chance,) * 20),)))
    assert stream.unread > 1000
