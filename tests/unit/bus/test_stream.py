"""Writing, reading and ending on a socket pair."""

import asyncio
import os
import socket
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from unified_llm.bus import stream as stream_module
from unified_llm.bus.encoding import Frame, encode_signal
from unified_llm.bus.reading import Incoming
from unified_llm.bus.stream import MessageStream


@dataclass
class _End:
    """A stream and what it has told."""

    stream: MessageStream
    other: socket.socket
    messages: list[Incoming] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@contextmanager
def _open_end() -> Iterator[_End]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    messages: list[Incoming] = []
    lost: list[str] = []
    stream = MessageStream(
        ours,
        is_noise=lambda _: False,
        wants_body=lambda _: True,
        on_message=messages.append,
        on_lost=lost.append,
    )
    with theirs:
        theirs.setblocking(False)
        try:
            yield _End(stream, theirs, messages, lost)
        finally:
            stream.close()


def _frame(text: str, *fds: int) -> Frame:
    return encode_signal(
        1,
        path="/a",
        interface="a.B",
        member="C",
        signature="s" + "h" * len(fds),
        values=(text, *fds),
        destination=None,
    )


async def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await asyncio.get_running_loop().sock_recv(sock, size - len(data))
    return data


async def test_what_the_kernel_cannot_take_now_is_sent_later() -> None:
    frames = [_frame(str(number) * 5000) for number in range(500)]
    with _open_end() as end:
        for frame in frames:
            end.stream.send(frame)
        expected = b"".join(frame.data for frame in frames)
        assert await _read(end.other, len(expected)) == expected
        await end.stream.drain()
        assert end.lost == []


async def test_descriptors_may_be_closed_as_soon_as_they_are_queued() -> None:
    with _open_end() as end:
        reading, writing = os.pipe()
        end.stream.send(_frame("a", reading))
        os.close(reading)
        await end.stream.drain()
        data, ancillary, *_ = end.other.recvmsg(4096, socket.CMSG_SPACE(64))
        assert data == _frame("a", 0).data
        received = array("i")
        for _level, _kind, payload in ancillary:
            received.frombytes(payload)
        os.write(writing, b"x")
        os.close(writing)
        (fd,) = received
        assert os.read(fd, 1) == b"x"
        os.close(fd)


async def test_descriptors_that_were_never_sent_are_closed() -> None:
    reading, writing = os.pipe()
    with _open_end() as end:
        end.stream.send(_frame("a", reading))
        os.close(reading)
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


async def test_the_end_of_the_other_side_is_told_once_and_sending_is_harmless() -> None:
    with _open_end() as end:
        end.other.close()
        while not end.lost:
            await asyncio.sleep(0)
        end.stream.send(_frame("a"))
        await end.stream.drain()
        end.stream.close()
        assert len(end.lost) == 1


async def test_our_own_end_is_not_told_as_a_loss() -> None:
    with _open_end() as end:
        end.stream.close()
        assert end.lost == []


async def test_a_bus_that_does_not_read_is_lost_and_not_remembered_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "MAX_QUEUED_BYTES", 10_000)
    with _open_end() as end:
        end.stream.send(_frame("x" * 9000))
        assert end.lost == []
        end.stream.send(_frame("x" * 9000))
        assert len(end.lost) == 1


async def test_messages_arrive_in_order() -> None:
    with _open_end() as end:
        for number in range(100):
            end.other.sendall(_frame(str(number)).data)
        while len(end.messages) < 100:
            await asyncio.sleep(0)
        assert [message.parse() for message in end.messages] == [[str(n)] for n in range(100)]
