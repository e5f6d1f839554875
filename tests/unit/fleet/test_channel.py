import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.worker_link import hello
from tests.unit.fleet.asking import order
from unified_llm.domain.errors import TooLarge, WorkerDied
from unified_llm.fleet.channel import Channel, open_channel
from unified_llm.worker.protocol import (
    MAX_FRAME_BYTES,
    Cancel,
    Progress,
    Stop,
    decode_to_worker,
    encode,
)


@asynccontextmanager
async def channel_and_peer() -> AsyncIterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs:
        async with open_channel(ours) as channel:
            yield channel, theirs


async def test_frames_arrive_in_order_however_they_are_chopped_up() -> None:
    async with channel_and_peer() as (channel, peer):
        sent = encode(hello()) + encode(Progress(fraction=0.5))
        for start in range(0, len(sent), 3):
            peer.sendall(sent[start : start + 3])
        assert await channel.receive() == hello()
        assert await channel.receive() == Progress(fraction=0.5)


async def test_messages_go_down_as_frames() -> None:
    async with channel_and_peer() as (channel, peer):
        await channel.send(Stop())
        channel.cancel(7)
        await asyncio.sleep(0)
        received = peer.recv(1000)
        assert received == encode(Stop()) + encode(Cancel(id=7))
        assert decode_to_worker(received[4 : 4 + received[3]]) == Stop()


async def test_the_end_between_two_frames_is_an_end() -> None:
    async with channel_and_peer() as (channel, peer):
        peer.sendall(encode(hello()))
        peer.close()
        assert await channel.receive() == hello()
        assert await channel.receive() is None
        assert await channel.receive() is None


async def test_the_end_inside_a_frame_is_a_death() -> None:
    async with channel_and_peer() as (channel, peer):
        peer.sendall(encode(hello())[:-1])
        peer.close()
        with pytest.raises(WorkerDied, match="cut off"):
            await channel.receive()


@pytest.mark.parametrize(
    "garbage",
    [
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x00",
        encode(Stop()),
    ],
)
async def test_a_worker_that_breaks_the_protocol_is_dead_to_us(garbage: bytes) -> None:
    async with channel_and_peer() as (channel, peer):
        peer.sendall(garbage)
        with pytest.raises(WorkerDied, match="broke the protocol"):
            await channel.receive()


async def test_a_request_beyond_a_frame_is_too_large() -> None:
    async with channel_and_peer() as (channel, _):
        with pytest.raises(TooLarge, match=str(MAX_FRAME_BYTES)):
            await channel.send(order("x" * MAX_FRAME_BYTES).frame(1))


async def test_sending_waits_for_a_worker_that_does_not_read() -> None:
    async with channel_and_peer() as (channel, peer):
        large = order("x" * 4_000_000).frame(1)
        peer.setblocking(False)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(channel.send(large))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not sending.done()
            left = len(encode(large))
            loop = asyncio.get_running_loop()
            while left > 0:
                left -= len(await loop.sock_recv(peer, 1 << 20))


async def test_sending_to_a_worker_that_has_gone_tells_so() -> None:
    async with channel_and_peer() as (channel, peer):
        peer.close()
        assert await channel.receive() is None
        with pytest.raises(WorkerDied):
            await channel.send(Stop())
        channel.cancel(1)


async def test_closing_does_not_wait_for_a_worker_that_does_not_read() -> None:
    async with channel_and_peer() as (channel, _), asyncio.TaskGroup() as group:
        sending = group.create_task(expect_death(channel))
        await asyncio.sleep(0)
        assert not sending.done()
        await channel.close()
        await sending


async def expect_death(channel: Channel) -> None:
    with pytest.raises(WorkerDied):
        await channel.send(order("x" * 4_000_000).frame(1))
