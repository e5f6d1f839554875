"""Datagrams with one descriptor."""

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.worker import state_channel
from unified_llm.worker.protocol import ProtocolError
from unified_llm.worker.state_channel import Keep, Kept, Parcel, Restored

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = state_channel.open_pair()
    with ours, theirs:
        yield ours, theirs


def test_a_descriptor_comes_with_its_message_and_is_not_inherited(pair: Pair) -> None:
    reading, writing = os.pipe()
    assert state_channel.send(pair[0], Keep(state=7, principal="uid:1"), reading)
    assert state_channel.send(pair[0], Restored(state=7, is_spent=True), None)
    os.close(reading)
    os.write(writing, b"x")
    os.close(writing)
    first, second = state_channel.receive(pair[1]), state_channel.receive(pair[1])
    assert first is not None
    assert second is not None
    assert state_channel.decode_from_worker(first) == Keep(state=7, principal="uid:1")
    assert state_channel.decode_from_worker(second) == Restored(state=7, is_spent=True)
    assert second.descriptor is None
    assert first.descriptor is not None
    assert os.read(first.descriptor, 1) == b"x"
    assert not os.get_inheritable(first.descriptor)
    first.drop()


def test_nothing_is_waited_for(pair: Pair) -> None:
    assert state_channel.receive(pair[1]) is None
    message = Kept(state=1, principal="p" * state_channel.MAX_PRINCIPAL_CHARACTERS)
    while state_channel.send(pair[0], message, None):
        pass  # until nobody takes more
    assert state_channel.receive(pair[1]) is not None
    assert state_channel.send(pair[0], message, None)


def test_the_end_is_told(pair: Pair) -> None:
    pair[0].close()
    assert not state_channel.send(pair[1], Restored(state=1, is_spent=False), None)
    with pytest.raises(EOFError):
        state_channel.receive(pair[1])


def test_more_descriptors_than_one_are_closed(pair: Pair) -> None:
    reading, writing = os.pipe()
    socket.send_fds(pair[0], [b"x"], [reading, reading, writing])
    os.close(reading)
    os.close(writing)
    parcel = state_channel.receive(pair[1])
    assert parcel is not None
    assert parcel.descriptor is not None
    assert os.read(parcel.descriptor, 1) == b""  # nobody has the writing end
    parcel.drop()


@given(st.binary())
def test_what_cannot_be_read_is_a_protocol_error(body: bytes) -> None:
    for decode in (state_channel.decode_from_worker, state_channel.decode_kept):
        try:
            decode(Parcel(body, None))
        except ProtocolError:
            continue


def test_a_size_is_told_of_sealed_memory_only() -> None:
    with open(__file__, "rb") as file, pytest.raises(ProtocolError, match="cannot be sealed"):
        state_channel.sealed_size(file.fileno())
