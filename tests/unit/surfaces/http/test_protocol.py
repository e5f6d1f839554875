"""What a client may take of time and space, each limit tried on a real socket."""

import asyncio
import json
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.backend import FakeBackend
from tests.unit.surfaces.http.door import chat_body, chat_request, open_door, post
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.surfaces.http.protocol import BYTES_PER_TURN, DeadlineProtocol

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT = Seconds(0.05)


async def test_a_connection_serves_many_requests_also_pipelined(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(HEALTH)
        assert (await wire.answer()).status == 200
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(HEALTH, HEALTH, HEALTH)
        got = b""
        while got.count(b"HTTP/1.1 200") < 3:
            got += await wire.reader.read(65536)


async def test_who_asks_and_says_no_more_gets_the_answer(tmp_path: Path) -> None:
    """As `printf … | nc -N -U` does: the answer was still held back when its end was read."""
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(HEALTH)
        wire.writer.write_eof()
        assert (await wire.until_closed()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", HEALTH], ids=["fresh", "after a request"])
async def test_an_idle_connection_is_closed_without_a_word(tmp_path: Path, sent: bytes) -> None:
    limits = HttpLimits(idle_seconds=SHORT)
    async with open_door(tmp_path, limits=limits) as door, door.wire() as wire:
        wire.send(sent)
        if sent:
            assert (await wire.answer()).status == 200
        assert await wire.until_closed() == b""


async def test_a_trickling_head_is_answered_408(tmp_path: Path) -> None:
    limits = HttpLimits(head_seconds=Seconds(0.1))
    async with open_door(tmp_path, limits=limits) as door, door.wire() as wire:
        wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.TaskGroup() as group:
            trickle = group.create_task(_trickle(wire.writer, b"x-more: 1\r\n"))
            answer = await wire.answer()
            trickle.cancel()
        assert answer.status == 408
        assert answer.error()["code"] == "request-too-slow"
        assert answer.headers["connection"] == "close"
        assert await wire.until_closed() == b""


async def test_a_trickling_body_is_answered_408_and_nothing_is_asked(tmp_path: Path) -> None:
    limits = HttpLimits(body_seconds=Seconds(0.1))
    async with open_door(tmp_path, limits=limits) as door, door.wire() as wire:
        wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")
        async with asyncio.TaskGroup() as group:
            trickle = group.create_task(_trickle(wire.writer, b" "))
            answer = await wire.answer()
            trickle.cancel()
        assert answer.status == 408
        assert door.house.backend.asked == []


async def _trickle(writer: asyncio.StreamWriter, piece: bytes) -> None:
    # Past the transport: one that can not write any more throws away what it has not read, and with
    # it, on a busy machine, the answer.
    with writer.get_extra_info("socket").dup() as ours:
        with suppress(BrokenPipeError):
            while True:
                ours.send(piece)
                await asyncio.sleep(0.01)
        await asyncio.Event().wait()


async def test_the_head_deadline_also_holds_for_a_second_request(tmp_path: Path) -> None:
    limits = HttpLimits(head_seconds=SHORT)
    async with open_door(tmp_path, limits=limits) as door, door.wire() as wire:
        wire.send(HEALTH)
        assert (await wire.answer()).status == 200
        wire.send(b"GET /health HT")
        assert (await wire.until_closed()).startswith(b"HTTP/1.1 408 ")


async def test_a_late_body_of_an_answered_request_does_not_keep_the_connection(
    tmp_path: Path,
) -> None:
    limits = HttpLimits(body_seconds=SHORT, idle_seconds=SHORT)
    head = b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
    async with open_door(tmp_path, limits=limits) as door:
        for rest in (b"ab", b"abcd"):
            async with door.wire() as wire:
                wire.send(head)
                await wire.reader.readuntil(b"degraded")
                wire.send(rest)
                assert b"408" not in await wire.until_closed()


async def test_answering_is_under_no_deadline_of_the_clients(tmp_path: Path) -> None:
    limits = HttpLimits(
        head_seconds=Seconds(0.02), body_seconds=Seconds(0.02), idle_seconds=Seconds(0.02)
    )
    gate = asyncio.Event()
    backend = FakeBackend([gate])
    async with open_door(tmp_path, backend, limits) as door, door.wire() as wire:
        wire.send(chat_request())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await wire.until_closed()
        assert backend.open == 1


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"a" * 40_000 + b"\r\n",
        b"".join(b"X-%d: 1\r\n" % number for number in range(101)),
        b"X-Endless: " + b"a" * 400_000,
    ],
    ids=["long", "many", "endless"],
)
async def test_large_heads_are_answered_431(tmp_path: Path, head: bytes) -> None:
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\n", head, b"\r\n")
        answer = await wire.answer()
        assert answer.status == 431
        assert answer.error()["code"] == "head-too-large"


async def test_a_body_announced_too_large_is_refused_before_it_comes(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: 1073741824\r\n\r\n"
        )
        answer = await wire.answer()
        assert answer.status == 413
        assert answer.error()["code"] == "too-large"
        assert await wire.until_closed() == b""


async def test_a_chunked_body_is_counted_while_it_comes(tmp_path: Path) -> None:
    limits = HttpLimits(body_bytes=Bytes(100_000))
    chunk = b"ffff\r\n" + b" " * 0xFFFF + b"\r\n"
    async with open_door(tmp_path, limits=limits) as door, door.wire() as wire:
        wire.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        wire.send(chunk, chunk)
        answer = await wire.answer()
        assert answer.status == 413
        assert door.house.backend.asked == []


@pytest.mark.parametrize(("spare", "status"), [(0, 200), (-1, 413)])
async def test_a_body_of_exactly_the_limit_is_taken(
    tmp_path: Path, spare: int, status: int
) -> None:
    request = chat_request()
    size = len(request.partition(b"\r\n\r\n")[2])
    limits = HttpLimits(body_bytes=Bytes(size + spare))
    async with open_door(tmp_path, limits=limits) as door, door.wire() as wire:
        wire.send(request)
        assert (await wire.answer()).status == status


async def test_a_client_waiting_for_100_gets_it(tmp_path: Path) -> None:
    head, _, body = chat_request().partition(b"\r\n\r\n")
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(head, b"\r\nExpect: 100-continue\r\n\r\n")
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        wire.send(body)
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize(
    ("field", "status", "code"),
    [
        (b"Origin: https://evil.example", 403, "origin-refused"),
        (b"Origin: null", 403, "origin-refused"),
        (b"Content-Encoding: gzip", 415, "unsupported-encoding"),
        (b"Transfer-Encoding: chunked", 400, "malformed-http"),
        (b"Transfer-Encoding: gzip, chunked", 501, "malformed-http"),
        (b"Content-Length: 77", 400, "malformed-http"),
        (b"Host: y", 400, "malformed-http"),
        (b"Bad Name: 1", 400, "malformed-http"),
        (b"X: a\0b", 400, "malformed-http"),
    ],
)
async def test_fields_that_have_no_business_here_are_refused(
    tmp_path: Path, field: bytes, status: int, code: str
) -> None:
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(post(b"{}", field))
        answer = await wire.answer()
        assert (answer.status, answer.error()["code"]) == (status, code)
        assert await wire.until_closed() == b""


@pytest.mark.parametrize("path", [b"/health", b"/v1/models", b"/v1/models/tiny", b"/v1/status"])
async def test_web_pages_are_refused_on_every_route(tmp_path: Path, path: bytes) -> None:
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nOrigin: http://localhost\r\n\r\n")
        assert (await wire.answer()).status == 403


@pytest.mark.parametrize(
    "junk",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET /\r\n\r\n", b"\r\n" * 50, b"\x00" * 100 + b"\r\n\r\n"],
    ids=["tls", "http 0.9", "empty lines", "zeros"],
)
async def test_what_is_not_http_gets_a_400_or_the_door(tmp_path: Path, junk: bytes) -> None:
    limits = HttpLimits(head_seconds=SHORT, idle_seconds=SHORT)
    async with open_door(tmp_path, limits=limits) as door, door.wire() as wire:
        wire.send(junk)
        got = await wire.until_closed()
        assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))


async def test_one_user_gets_its_share_of_connections_and_is_told(tmp_path: Path) -> None:
    limits = HttpLimits(connections_per_uid=2)
    async with open_door(tmp_path, limits=limits) as door:
        async with door.wire() as first, door.wire() as second:
            for wire in (first, second):
                wire.send(HEALTH)
                assert (await wire.answer()).status == 200
            async with door.wire() as third:
                third.send(HEALTH)
                answer = await third.answer()
                assert (answer.status, answer.error()["code"]) == (429, "rate-limited")
                assert answer.headers["retry-after"] == "1"
                assert await third.until_closed() == b""
        while door.connections:
            await asyncio.sleep(0)
        async with door.wire() as later:
            later.send(HEALTH)
            assert (await later.answer()).status == 200


async def test_all_users_together_have_a_limit_too(tmp_path: Path) -> None:
    limits = HttpLimits(connections=1)
    async with open_door(tmp_path, limits=limits) as door, door.wire() as first:
        first.send(HEALTH)
        assert (await first.answer()).status == 200
        async with door.wire() as second:
            second.send(HEALTH)
            answer = await second.answer()
            assert (answer.status, answer.error()["code"]) == (503, "queue-full")


async def test_two_hundred_slow_clients_are_all_cut_off(tmp_path: Path) -> None:
    limits = HttpLimits(head_seconds=Seconds(0.1), connections_per_uid=400)
    async with open_door(tmp_path, limits=limits) as door:
        sockets = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(200)]
        try:
            for one in sockets:
                one.connect(str(door.path))
                one.send(b"POST /v1/chat")
            async with door.wire() as wire:
                wire.send(HEALTH)
                assert (await wire.answer()).status == 200
            while door.connections < len(sockets):
                await asyncio.sleep(0.001)
            while door.connections:
                await asyncio.sleep(0.001)
        finally:
            for one in sockets:
                one.close()


async def test_an_idle_connection_has_one_timer_and_a_busy_one_none(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with open_door(tmp_path, FakeBackend([gate])) as door, door.wire() as wire:
        timers = _timers()
        wire.send(HEALTH)
        await wire.answer()
        assert len(_timers() - timers) <= 1
        wire.send(chat_request())
        while not door.house.backend.open:
            await asyncio.sleep(0)
        assert len(_timers() - timers) == 0


def _timers() -> set[asyncio.TimerHandle]:
    loop = asyncio.get_running_loop()
    scheduled = loop._scheduled  # type: ignore[attr-defined]
    return {handle for handle in scheduled if not handle.cancelled()}


async def test_one_turn_of_the_loop_takes_little_of_a_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40,000 chunks of one byte, read at once, held up the loop for a third of a second."""
    taken: list[int] = []
    take = DeadlineProtocol.data_received

    def data_received(protocol: DeadlineProtocol, data: bytes) -> None:
        taken.append(len(data))
        take(protocol, data)

    monkeypatch.setattr(DeadlineProtocol, "data_received", data_received)
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(post(json.dumps(chat_body(user="x" * 200_000)).encode()))
        assert (await wire.answer()).status == 200
    assert max(taken) <= BYTES_PER_TURN
