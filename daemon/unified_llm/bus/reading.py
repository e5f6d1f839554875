"""Cuts the bytes of a socket into messages, a slice at a time.

Rules:
1. Received descriptors are close-on-exec from birth, so that no worker inherits them.
2. One turn of the event loop reads at most BYTES_PER_TURN: a peer that floods us shares the loop.
3. A body nobody wants, or larger than MAX_BODY_BYTES, is passed over unread, and one that is wanted
   is parsed when its turn has come. Parsing is done in Python: 8 MiB of empty strings take it
   seconds, and any user may send 32.
4. What is wrong with a message costs that message only, unless its length cannot be told.
5. Many messages come with one system call. A message's descriptors arrive no later than its last
   byte and in the order of the messages, so each takes as many as its header says.
"""

import socket
from array import array
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from os import close
from typing import Final

from unified_llm.bus.decoding import (
    FIXED_BYTES,
    Header,
    Malformed,
    parse_body,
    parse_extent,
    parse_header,
)

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_HEADER_BYTES: Final = 64 * 1024
BYTES_PER_TURN: Final = 256 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
# The most descriptors the kernel passes with one message (SCM_MAX_FD).
_MAX_FDS: Final = 253
_FD_BYTES: Final = array("i").itemsize


class Problem(StrEnum):
    """Why a message has no body."""

    UNWANTED = "unwanted"
    TOO_LARGE = "too large"
    MALFORMED = "malformed"
    CROWDED = "more than may wait"


@dataclass(slots=True)
class Incoming:
    """A received message.

    data: its body as it came; None if there is a `problem`.
    fds: belong to whoever takes the message.
    """

    header: Header
    data: bytes | None
    fds: list[int]
    problem: Problem | None = None

    def parse(self) -> list[object] | None:
        """The values of the body, parsed now; None if there is a `problem`, also a new one."""
        if self.data is None:
            return None
        try:
            return parse_body(self.header, self.data)
        except Malformed:
            self.data, self.problem = None, Problem.MALFORMED
            return None

    def close_fds(self) -> None:
        """Close the descriptors; for whoever does not want them."""
        close_all(self.fds)
        self.fds = []


def close_all(fds: Sequence[int]) -> None:
    """Close every descriptor, whatever the others say."""
    for fd in fds:
        with suppress(OSError):
            close(fd)


class MessageReader:
    """The messages that arrive on a non-blocking socket.

    is_noise: asked first, with the bytes of a header: whether the message is dropped unread.
    wants_body: asked once for each other message, with its header.
    """

    def __init__(
        self,
        sock: socket.socket,
        wants_body: Callable[[Header], bool],
        is_noise: Callable[[bytes], bool] = lambda header: False,
    ) -> None:
        self._sock = sock
        self._is_noise = is_noise
        self._wants_body = wants_body
        self._budget = 0
        self._buffer = b""
        self._position = 0
        self._fds: list[int] = []
        self._has_lost_count = False
        self._messages = self._read_messages()

    def begin_turn(self) -> None:
        """Allow BYTES_PER_TURN again."""
        self._budget = BYTES_PER_TURN

    def read(self) -> Incoming | None:
        """The next message; None if it is not all there yet, or the turn is used up.

        Raises OSError, EOFError, and BrokenFraming; after any of them there is nothing to read.
        """
        return next(self._messages)

    def close(self) -> None:
        """Forget the message that was not all there."""
        self._messages.close()
        self._drop_fds()

    def _read_messages(self) -> Generator[Incoming | None, None, None]:
        while True:
            fixed = yield from self._take(FIXED_BYTES)
            extent = parse_extent(fixed)
            rest = extent.header_bytes - FIXED_BYTES
            if extent.header_bytes > MAX_HEADER_BYTES:
                yield from self._pass_over(rest + extent.body_bytes)
                self._lose_count()
                continue
            data = fixed + (yield from self._take(rest))
            # Its descriptors would be here by now, and who drops them has to count them.
            if not self._fds and self._is_noise(data):
                yield from self._pass_over(extent.body_bytes)
                continue
            try:
                header = parse_header(data)
            except Malformed:
                yield from self._pass_over(extent.body_bytes)
                self._lose_count()
                continue
            body, problem = yield from self._read_body(header)
            if self._has_lost_count:
                self._drop_fds()
            yield Incoming(header, body, self._take_fds(header.fds), problem)

    def _read_body(
        self, header: Header
    ) -> Generator[None, None, tuple[bytes | None, Problem | None]]:
        problem = None
        if not self._wants_body(header):
            problem = Problem.UNWANTED
        elif header.body_bytes > MAX_BODY_BYTES:
            problem = Problem.TOO_LARGE
        if problem is not None:
            yield from self._pass_over(header.body_bytes)
            return None, problem
        return (yield from self._take(header.body_bytes)), None

    def _take(self, size: int) -> Generator[None, None, bytes]:
        while len(self._buffer) - self._position < size:
            if not self._receive():
                yield None
        begin = self._position
        self._position += size
        return self._buffer[begin : self._position]

    def _pass_over(self, size: int) -> Generator[None, None, None]:
        while (there := len(self._buffer) - self._position) < size:
            size -= there
            self._position = len(self._buffer)
            if not self._receive():
                yield None
        self._position += size

    def _take_fds(self, count: int) -> list[int]:
        """Those of the message that has just been read."""
        taken, left = self._fds[:count], self._fds[count:]
        self._fds = left
        if self._position == len(self._buffer):
            # All that has come has been read: what is left is nobody's.
            self._drop_fds()
            self._has_lost_count = False
        return taken

    def _lose_count(self) -> None:
        """A header could not be read, so nobody knows which descriptors are whose."""
        self._has_lost_count = True
        self._drop_fds()
        self._take_fds(0)

    def _drop_fds(self) -> None:
        close_all(self._fds)
        self._fds = []

    def _receive(self) -> bool:
        """Have more in the buffer; False if there is nothing now or the turn is used up."""
        if self._budget <= 0:
            return False
        try:
            data, ancillary, *_ = self._sock.recvmsg(
                min(_RECEIVE_BYTES, self._budget),
                socket.CMSG_SPACE(_MAX_FDS * _FD_BYTES),
                socket.MSG_CMSG_CLOEXEC,
            )
        except (BlockingIOError, InterruptedError):
            return False
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds += array("i", payload[: len(payload) // _FD_BYTES * _FD_BYTES])
        if not data:
            raise EOFError("the bus closed the connection")
        self._budget -= len(data)
        self._buffer = self._buffer[self._position :] + data
        self._position = 0
        return True
