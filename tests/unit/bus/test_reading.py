"""Cutting a socket's bytes into messages."""

import os
import socket
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.bus.decoding import BrokenFraming, Header
from unified_llm.bus.encoding import encode_signal
from unified_llm.bus.reading import (
    BYTES_PER_TURN,
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Incoming,
    MessageReader,
    Problem,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def _message(text: str, serial: int = 1, path: str = "/a") -> bytes:
    return encode_signal(
        serial,
        path=path,
        interface="a.B",
        member="C",
        signature="s",
        values=(text,),
        destination=None,
    ).data


def _wants_all(_header: Header) -> bool:
    return True


def _read_everything(reader: MessageReader) -> list[Incoming]:
    """What arrives in as many turns as it takes, until nothing more does."""
    messages = []
    for _ in range(2000):
        reader.begin_turn()
        while (incoming := reader.read()) is not None:
            messages.append(incoming)
    return messages


@given(
    st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0")), max_size=4),
    st.integers(1, 40),
)
def test_messages_arrive_whole_however_the_bytes_are_cut(texts: list[str], size: int) -> None:
    data = b"".join(_message(text, number + 1) for number, text in enumerate(texts))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        reader = MessageReader(ours, _wants_all)
        seen = []
        for begin in range(0, len(data), size):
            theirs.sendall(data[begin : begin + size])
            reader.begin_turn()
            while (incoming := reader.read()) is not None:
                seen.append((incoming.header.serial, incoming.parse()))
    assert seen == [(number + 1, [text]) for number, text in enumerate(texts)]


def _feed(pair: Pair, reader: MessageReader, data: bytes) -> list[Incoming]:
    """Write all of `data`, reading in between as the kernel's buffer fills."""
    ours, theirs = pair
    theirs.setblocking(False)
    messages, view = [], memoryview(data)
    while view:
        try:
            view = view[theirs.send(view) :]
        except BlockingIOError:
            reader.begin_turn()
            while (incoming := reader.read()) is not None:
                messages.append(incoming)
    assert ours.fileno() >= 0
    return messages + _read_everything(reader)


def test_a_large_body_is_passed_over_and_the_next_message_is_read(pair: Pair) -> None:
    reader = MessageReader(pair[0], _wants_all)
    data = _message("x" * MAX_BODY_BYTES) + _message("next", 2)
    large, small = _feed(pair, reader, data)
    assert (large.problem, large.parse()) == (Problem.TOO_LARGE, None)
    assert (small.problem, small.parse()) == (None, ["next"])


def test_a_body_nobody_wants_is_passed_over(pair: Pair) -> None:
    reader = MessageReader(pair[0], lambda header: header.serial == 2)
    unwanted, wanted = _feed(pair, reader, _message("no") + _message("yes", 2))
    assert (unwanted.problem, unwanted.parse()) == (Problem.UNWANTED, None)
    assert wanted.parse() == ["yes"]


def test_an_endless_header_costs_its_own_message_only(pair: Pair) -> None:
    reader = MessageReader(pair[0], _wants_all)
    data = _message("x", path="/" + "a" * MAX_HEADER_BYTES) + _message("next", 2)
    (only,) = _feed(pair, reader, data)
    assert only.parse() == ["next"]


def test_a_header_that_makes_no_sense_costs_its_own_message_only(pair: Pair) -> None:
    bad = bytearray(_message("bad"))
    bad[1] = 77
    reader = MessageReader(pair[0], _wants_all)
    (only,) = _feed(pair, reader, bytes(bad) + _message("next", 2))
    assert only.parse() == ["next"]


def test_a_body_that_makes_no_sense_is_said_to_be_so(pair: Pair) -> None:
    bad = bytearray(_message("bad"))
    bad[-8:-4] = b"\xff\xff\xff\x7f"
    reader = MessageReader(pair[0], _wants_all)
    first, second = _feed(pair, reader, bytes(bad) + _message("next", 2))
    assert (first.parse(), first.problem) == (None, Problem.MALFORMED)
    assert second.parse() == ["next"]


def test_bytes_that_are_no_messages_end_the_reading(pair: Pair) -> None:
    reader = MessageReader(pair[0], _wants_all)
    with pytest.raises(BrokenFraming):
        _feed(pair, reader, b"HTTP/1.1 200 OK\r\n")


def test_the_end_of_the_stream_is_told(pair: Pair) -> None:
    reader = MessageReader(pair[0], _wants_all)
    pair[1].sendall(_message("cut")[:20])
    pair[1].close()
    reader.begin_turn()
    with pytest.raises(EOFError):
        reader.read()


def test_one_turn_reads_a_slice(pair: Pair) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BYTES_PER_TURN)
    pair[1].setblocking(False)
    sent = pair[1].send(_message("x" * 4 * BYTES_PER_TURN))
    reader = MessageReader(pair[0], _wants_all)
    reader.begin_turn()
    assert reader.read() is None
    assert reader.read() is None
    left = len(pair[0].recv(sent, socket.MSG_PEEK))
    assert left == sent - min(sent, BYTES_PER_TURN)


def _send_with_fds(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))])


def _message_with(fds: list[int], serial: int) -> bytes:
    frame = encode_signal(
        serial,
        path="/a",
        interface="a.B",
        member="C",
        signature="h" * len(fds),
        values=fds,
        destination=None,
    )
    return frame.data


def test_descriptors_belong_to_their_message_and_to_no_child(pair: Pair) -> None:
    reader = MessageReader(pair[0], _wants_all)
    reading, writing = os.pipe()
    pair[1].sendall(_message("without", 1))
    _send_with_fds(pair[1], _message_with([reading, writing], 2), [reading, writing])
    pair[1].sendall(_message("without", 3))
    _send_with_fds(pair[1], _message_with([reading], 4), [reading])
    messages = _read_everything(reader)
    assert [len(message.fds) for message in messages] == [0, 2, 0, 1]
    fds = [fd for message in messages for fd in message.fds]
    assert not any(os.get_inheritable(fd) for fd in fds)
    for message in messages:
        message.close_fds()
        assert message.fds == []
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


def test_descriptors_of_what_is_passed_over_or_never_ends_are_closed(pair: Pair) -> None:
    reading, writing = os.pipe()
    bad = bytearray(_message_with([reading], 1))
    bad[1] = 77
    reader = MessageReader(pair[0], _wants_all)
    _send_with_fds(pair[1], bytes(bad), [reading])
    _send_with_fds(pair[1], _message("more than it says", 2), [reading])
    _send_with_fds(pair[1], _message("cut")[:30], [reading])
    (only,) = _read_everything(reader)
    assert only.fds == []
    reader.close()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


def test_nobody_gets_a_descriptor_that_came_with_what_could_not_be_read(pair: Pair) -> None:
    reading, writing = os.pipe()
    bad = bytearray(_message_with([writing], 1))
    bad[1] = 77
    reader = MessageReader(pair[0], _wants_all)
    # In one piece for the reader: the kernel hands over bytes up to the next descriptors.
    pair[1].sendall(_message("before", 1))
    _send_with_fds(pair[1], bytes(bad) + _message_with([reading], 2), [writing])
    _send_with_fds(pair[1], _message_with([reading], 3), [reading])
    messages = _read_everything(reader)
    assert [len(message.fds) for message in messages] == [0, 0, 1]
    assert os.fstat(messages[2].fds[0]).st_ino == os.fstat(reading).st_ino
    messages[2].close_fds()
    os.close(reading)
    os.close(writing)
