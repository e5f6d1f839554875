"""The daemon's end of the socketpair to a worker: frames in, frames out.

Foreign exceptions of the socket and of the protocol are mapped here and nowhere else: whatever goes
wrong with a channel means that its worker is of no more use, which is WorkerDied.
"""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from unified_llm.domain.errors import TooLarge, WorkerDied
from unified_llm.worker.frames import FrameBuffer
from unified_llm.worker.protocol import (
    Cancel,
    DropState,
    FromWorker,
    Pause,
    ProtocolError,
    Resume,
    ToWorker,
    decode_from_worker,
    encode,
)

_READ_BYTES = 64 * 1024
_CLOSED = "The channel to the worker is closed."


class Channel:
    """Typed frames over one stream socket. Made by open_channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameBuffer()
        self._received: deque[FromWorker] = deque()

    async def send(self, message: ToWorker) -> None:
        """Write one frame; waits while the worker does not read.

        Raises TooLarge if it does not fit into a frame, WorkerDied if the channel is closed.
        """
        self._write(message)
        try:
            await self._writer.drain()
        except OSError as error:
            raise WorkerDied(_CLOSED) from error
        if self._writer.is_closing():
            raise WorkerDied(_CLOSED)

    def cancel(self, request: int) -> None:
        """Write a Cancel without waiting: it must go out even while the caller is cancelled."""
        self._write(Cancel(id=request))

    def drop_state(self, state: int) -> None:
        """Write a DropState without waiting: many may be told at once."""
        self._write(DropState(state=state))

    def pause(self, request: int) -> None:
        """Write a Pause without waiting: what is read meanwhile would pile up."""
        self._write(Pause(id=request))

    def resume(self, request: int) -> None:
        """Write a Resume without waiting."""
        self._write(Resume(id=request))

    async def receive(self) -> FromWorker | None:
        """The next frame; None once the worker has closed its end between two frames.

        Raises WorkerDied if the worker broke the protocol or closed in the middle of a frame.
        """
        while not self._received:
            chunk = await self._read()
            if not chunk:
                if self._frames.is_empty:
                    return None
                raise WorkerDied("The worker's last frame is cut off.")
            self._decode(chunk)
        return self._received.popleft()

    def _write(self, message: ToWorker) -> None:
        try:
            frame = encode(message)
        except ProtocolError as error:
            raise TooLarge(
                f"The request does not fit into one message to the worker: {error}."
            ) from error
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(_READ_BYTES)
        except ConnectionError:
            # A worker killed with unread frames in its socket resets instead of ending.
            return b""

    def _decode(self, chunk: bytes) -> None:
        try:
            self._received.extend(decode_from_worker(body) for body in self._frames.feed(chunk))
        except ProtocolError as error:
            raise WorkerDied(f"The worker broke the protocol: {error}.") from error

    async def close(self) -> None:
        """Close at once; frames not yet written are dropped, as nobody may be left to read them."""
        self._writer.transport.abort()
        with suppress(OSError):
            await self._writer.wait_closed()


@asynccontextmanager
async def open_channel(end: socket.socket) -> AsyncIterator[Channel]:
    """A channel over `end`, which it takes over and closes."""
    try:
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=_READ_BYTES)
    except BaseException:
        end.close()
        raise
    channel = Channel(reader, writer)
    try:
        yield channel
    finally:
        await channel.close()
