"""The socket to the bus: whole messages in, whole messages out.

Rules:
1. A full socket buffer is a reason to wait, not an error.
2. Descriptors on their way out are duplicates that this file owns until the kernel has them, so
   that nobody can close one too early, which would end the connection, or forget it.
3. One turn of the event loop takes at most MESSAGES_PER_TURN messages.
"""

import asyncio
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from unified_llm.bus.decoding import BrokenFraming, Header
from unified_llm.bus.encoding import Frame
from unified_llm.bus.reading import Incoming, MessageReader, close_all

MAX_QUEUED_BYTES: Final = 128 * 1024 * 1024
MESSAGES_PER_TURN: Final = 64


@dataclass(slots=True)
class _Outgoing:
    rest: memoryview
    fds: list[int]


class MessageStream:
    """Reads and writes messages on a connected, authenticated socket, which it owns.

    is_noise, wants_body: as in MessageReader.
    on_message: takes each message, and its descriptors.
    on_lost: told once, with the reason, when the bus or the framing is gone.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        is_noise: Callable[[bytes], bool],
        wants_body: Callable[[Header], bool],
        on_message: Callable[[Incoming], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._reader = MessageReader(sock, wants_body, is_noise)
        self._on_message = on_message
        self._on_lost = on_lost
        self._queue: deque[_Outgoing] = deque()
        self._queued_bytes = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._is_closed = False
        self._has_rest = False
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def send(self, frame: Frame) -> None:
        """Queue a message; the caller may close its descriptors at once. No effect once closed."""
        if self._is_closed:
            return
        self._queue.append(_Outgoing(memoryview(frame.data), [os.dup(fd) for fd in frame.fds]))
        self._queued_bytes += len(frame.data)
        if self._queued_bytes > MAX_QUEUED_BYTES:
            self._lose(f"the bus has left {self._queued_bytes} bytes unread")
        elif len(self._queue) == 1:
            self._drained.clear()
            self._loop.add_writer(self._sock.fileno(), self._on_writable)

    async def drain(self) -> None:
        """Wait until everything queued has been written, or the stream is closed."""
        await self._drained.wait()

    def close(self) -> None:
        """Drop what is queued and close the socket."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._reader.close()
        self._sock.close()
        for outgoing in self._queue:
            close_all(outgoing.fds)
        self._queue.clear()
        self._drained.set()

    def _on_readable(self) -> None:
        if not self._has_rest:
            self._read()

    def _read(self) -> None:
        self._has_rest = False
        self._reader.begin_turn()
        for _ in range(MESSAGES_PER_TURN):
            if self._is_closed:
                return
            try:
                incoming = self._reader.read()
            except (OSError, EOFError, BrokenFraming) as exc:
                self._lose(str(exc) or type(exc).__name__)
                return
            if incoming is None:
                return
            self._on_message(incoming)
        # The reader may have more already, of which the socket will not tell.
        self._has_rest = True
        self._loop.call_soon(self._read)

    def _on_writable(self) -> None:
        try:
            while self._queue and self._has_written(self._queue[0]):
                self._queue.popleft()
        except OSError as exc:
            self._lose(str(exc))
            return
        if not self._queue:
            self._loop.remove_writer(self._sock.fileno())
            self._drained.set()

    def _has_written(self, outgoing: _Outgoing) -> bool:
        """Write what the kernel takes; whether that was all."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", outgoing.fds))]
        try:
            written = self._sock.sendmsg([outgoing.rest], rights if outgoing.fds else [])
        except (BlockingIOError, InterruptedError):
            return False
        close_all(outgoing.fds)
        outgoing.fds = []
        outgoing.rest = outgoing.rest[written:]
        self._queued_bytes -= written
        return not outgoing.rest

    def _lose(self, reason: str) -> None:
        if not self._is_closed:
            self.close()
            self._on_lost(reason)
