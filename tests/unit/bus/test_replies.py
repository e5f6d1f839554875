"""Waiting for replies."""

import asyncio
import os

import pytest

from unified_llm.bus import faults
from unified_llm.bus.decoding import Header, Kind
from unified_llm.bus.reading import Incoming, Problem
from unified_llm.bus.replies import Replies, values_of
from unified_llm.domain.units import Seconds


def _reply(
    serial: int, *, sender: str = ":1.2", kind: Kind = Kind.RETURN, signature: str = "s"
) -> Incoming:
    header = Header(kind, 0, 9, 9, False, reply_serial=serial, sender=sender, signature=signature)
    return Incoming(header, b"\4\0\0\0text\0", [])


def _with_pipe(reply: Incoming) -> tuple[Incoming, int]:
    """The reply, carrying the reading end of a pipe, and the writing end."""
    reading, writing = os.pipe()
    reply.fds = [reading]
    return reply, writing


def _assert_closed(writing: int) -> None:
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


async def test_a_reply_reaches_whoever_waits_for_its_number() -> None:
    replies = Replies()
    first, second = replies.next_serial(), replies.next_serial()
    got = await replies.wait(second, ":1.2", Seconds(60), lambda: replies.deliver(_reply(second)))
    assert got is not None
    assert not replies.is_awaited(_reply(first).header)
    assert not replies.is_awaited(_reply(second).header)


async def test_nobody_else_can_answer_for_a_connection() -> None:
    replies = Replies()

    def answer() -> None:
        assert not replies.is_awaited(_reply(1, sender=":1.66").header)
        replies.deliver(_reply(1, sender=":1.66"))
        replies.deliver(_reply(1))

    got = await replies.wait(1, ":1.2", Seconds(60), answer)
    assert got is not None
    assert got.header.sender == ":1.2"


async def test_the_end_of_the_bus_is_told_to_everybody() -> None:
    replies = Replies()
    assert await replies.wait(1, ":1.2", Seconds(60), replies.end) is None


async def test_a_timeout_is_a_fault_and_a_late_reply_leaves_nothing() -> None:
    replies = Replies()
    with pytest.raises(faults.BusFault) as caught:
        await replies.wait(1, ":1.2", Seconds(0), lambda: None)
    assert caught.value.name == faults.NO_REPLY
    late, writing = _with_pipe(_reply(1))
    replies.deliver(late)
    _assert_closed(writing)


async def test_a_reply_that_meets_a_cancellation_leaves_nothing() -> None:
    replies = Replies()
    late, writing = _with_pipe(_reply(1))
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(replies.wait(1, ":1.2", Seconds(60), lambda: None))
        await asyncio.sleep(0)
        replies.deliver(late)
        waiting.cancel()
    _assert_closed(writing)


def test_serial_numbers_start_over_and_are_never_zero() -> None:
    replies = Replies()
    replies._serial = 2**32 - 2
    assert [replies.next_serial() for _ in range(3)] == [2**32 - 1, 1, 2]


@pytest.mark.parametrize("problem", Problem)
def test_a_reply_without_a_body_is_a_fault_that_says_why(problem: Problem) -> None:
    reply, writing = _with_pipe(_reply(1))
    reply.data, reply.problem = None, problem
    with pytest.raises(faults.BusFault, match=problem):
        values_of(reply, None)
    _assert_closed(writing)


def test_descriptors_of_an_error_or_of_another_shape_are_closed() -> None:
    for reply, expects in ((_reply(1, kind=Kind.ERROR), None), (_reply(1), "u"), (_reply(1), "s")):
        carrying, writing = _with_pipe(reply)
        if expects == "s":
            assert values_of(carrying, expects) == ("text",)
        else:
            with pytest.raises(faults.BusFault):
                values_of(carrying, expects)
        _assert_closed(writing)
