"""Calls that want no reply."""

import struct

import pytest

from unified_llm.bus.decoding import parse_header
from unified_llm.bus.encoding import NO_REPLY_EXPECTED, encode_call
from unified_llm.bus.quota import MAX_UNANSWERED_PER_USER, UnansweredCalls


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _taken(calls: UnansweredCalls, uid: int | None, sender: str = ":1.1") -> int:
    return sum(calls.may_take(uid, sender) for _ in range(1000))


def _header(sender: str, *, flags: int = NO_REPLY_EXPECTED, member: str = "M") -> bytes:
    """A call as the bus hands it on: it adds the sender as the last field."""
    call = encode_call(
        1,
        destination="org.x",
        path="/",
        interface="org.x.I",
        member=member,
        signature="",
        values=(),
        flags=flags,
    ).data
    (size,) = struct.unpack_from("<I", call, 12)
    fields = call[16 : 16 + size] + bytes(-size % 8)
    fields += b"\x07\x01s\0" + struct.pack("<I", len(sender)) + sender.encode() + b"\0"
    return call[:12] + struct.pack("<I", len(fields)) + fields + bytes(-len(fields) % 8)


def test_each_user_has_so_many_a_second() -> None:
    clock = _Clock()
    calls = UnansweredCalls(clock)
    assert _taken(calls, 1000) == MAX_UNANSWERED_PER_USER
    assert _taken(calls, 1001) == MAX_UNANSWERED_PER_USER
    assert _taken(calls, None) == MAX_UNANSWERED_PER_USER
    clock.now = 0.9
    assert _taken(calls, 1000) == 0
    clock.now = 1.0
    assert _taken(calls, 1000) == MAX_UNANSWERED_PER_USER


def test_who_has_sent_too_many_is_dropped_at_a_glance_for_the_rest_of_the_second() -> None:
    clock = _Clock()
    calls = UnansweredCalls(clock)
    assert parse_header(_header(":1.1")).sender == ":1.1"
    assert not calls.is_noise(_header(":1.1"))
    _taken(calls, 1000, ":1.1")
    assert calls.is_noise(_header(":1.1"))
    assert calls.is_noise(_header(":1.1", member="Another"))
    assert not calls.is_noise(_header(":1.11"))
    assert not calls.is_noise(_header(":1.1", flags=0)), "its caller waits for a reply"
    clock.now = 1.0
    assert not calls.is_noise(_header(":1.1"))


@pytest.mark.parametrize("size", [0, 15, 16, 40])
def test_a_header_cut_short_is_no_noise(size: int) -> None:
    calls = UnansweredCalls(_Clock())
    _taken(calls, 1000, ":1.1")
    assert not calls.is_noise(_header(":1.1")[:size].ljust(4, b"\0"))
