"""A stream to a reader that may be slow, or leave."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from unified_llm.domain.errors import Cancelled
from unified_llm.domain.units import Seconds
from unified_llm.surfaces.dbus.stream import LineWriter, open_pipe

MORE_THAN_THE_KERNEL_KEEPS = 1024 * 1024


class Reader:
    """The other end."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int | None = descriptor
        self.hung_up = asyncio.Event()

    def read(self, count: int = 65536) -> bytes:
        assert self.descriptor is not None
        return os.read(self.descriptor, count)

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


@contextmanager
def open_stream(stall_limit: float = 30) -> Iterator[tuple[LineWriter, Reader]]:
    reading, writing = open_pipe()
    reader = Reader(reading)
    writer = LineWriter(writing, reader.hung_up.set, stall_limit=Seconds(stall_limit))
    try:
        yield writer, reader
    finally:
        writer.close()
        reader.close()


async def test_lines_arrive_whole_and_in_order() -> None:
    with open_stream() as (writer, reader):
        await writer.write(b"one\n")
        await writer.write(b"two\n")
        writer.close()
        assert reader.read() == b"one\ntwo\n"
        assert reader.read() == b""


async def test_the_pipe_is_not_inherited_and_blocks_only_its_reader() -> None:
    reading, writing = open_pipe()
    writer = LineWriter(writing, lambda: None)
    try:
        assert not os.get_inheritable(reading)
        assert not os.get_inheritable(writing)
        assert os.get_blocking(reading)
        assert not os.get_blocking(writing)
    finally:
        writer.close()
        os.close(reading)


async def test_a_slow_reader_gets_everything() -> None:
    line = b"x" * MORE_THAN_THE_KERNEL_KEEPS + b"\n"
    taken = bytearray()
    with open_stream() as (writer, reader):
        async with asyncio.TaskGroup() as group:
            group.create_task(writer.write(line))
            while len(taken) < len(line):
                taken += await asyncio.to_thread(reader.read)
    assert taken == line


async def test_a_reader_that_leaves_is_noticed_while_nothing_is_written() -> None:
    with open_stream() as (_, reader):
        reader.close()
        await reader.hung_up.wait()


async def test_writing_to_a_reader_that_has_left_is_a_cancellation() -> None:
    with open_stream() as (writer, reader):
        reader.close()
        with pytest.raises(Cancelled, match="The reader has closed the stream"):
            await writer.write(b"one\n")
        writer.write_at_once(b"two\n")


async def test_a_reader_that_leaves_ends_the_wait_for_it() -> None:
    with open_stream() as (writer, reader):

        async def write() -> None:
            with pytest.raises(Cancelled, match="The reader has closed the stream"):
                await writer.write(b"x" * MORE_THAN_THE_KERNEL_KEEPS)

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            await asyncio.sleep(0)
            reader.close()


async def test_a_reader_that_takes_nothing_is_given_up() -> None:
    with open_stream(stall_limit=0.01) as (writer, reader):
        with pytest.raises(Cancelled, match=r"The reader took nothing for 0\.01 s"):
            await writer.write(b"x" * MORE_THAN_THE_KERNEL_KEEPS)
        # Half a line is in the pipe: another would be taken for its end.
        taken = len(reader.read(MORE_THAN_THE_KERNEL_KEEPS))
        writer.write_at_once(b'{"error": {}}\n')
        writer.close()
        assert 0 < taken < MORE_THAN_THE_KERNEL_KEEPS
        assert reader.read() == b""


async def test_a_last_line_does_not_wait_for_room() -> None:
    with open_stream() as (writer, reader):
        filler = writer._descriptor
        assert filler is not None
        # Once less than a page is free, a pipe takes no more of what must stay in one piece.
        with suppress(BlockingIOError):
            while True:
                os.write(filler, b"\n" * 4096)
        writer.write_at_once(b"last\n")
        writer.close()
        assert b"last" not in b"".join(iter(reader.read, b""))


async def test_a_closed_stream_takes_nothing_and_closes_once() -> None:
    with open_stream() as (writer, reader):
        writer.close()
        writer.close()
        with pytest.raises(Cancelled, match="The stream was closed"):
            await writer.write(b"one\n")
        writer.write_at_once(b"two\n")
        assert reader.read() == b""
