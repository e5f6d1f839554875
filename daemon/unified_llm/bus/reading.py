"""Cuts the bytes of a socket into messages, a slice at a time.

Rules:
1. Received descriptors are close-on-exec from birth, so that no worker inherits them.
2. One turn of the event loop reads at most BYTES_PER_TURN: a peer that floods us shares the loop.
3. A body nobody wants, or larger than MAX_BODY_BYTES, is passed over unread. Parsing is done in
   Python: 8 MiB of empty strings take it seconds, and any user may send 32.
4. What is wrong with a message costs that message only, unless its length cannot be told.
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
# The most descriptors the kernel passes with one message (SCM_MAX_FD).
_MAX_FDS: Final = 253
_FD_BYTES: Final = array("i").itemsize


class Problem(StrEnum):
    """Why a message has no body."""

    UNWANTED = "unwanted"
    TOO_LARGE = "too large"
    MALFORMED = "malformed"


@dataclass(slots=True)
class Incoming:
    """A received message.

    body: None if there is a `problem`.
    fds: belong to whoever takes the message.
    """

    header: Header
    body: list[object] | None
    fds: list[int]
    problem: Problem | None = None

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

    wants_body: asked once per message, with its header.
    """

    def __init__(self, sock: socket.socket, wants_body: Callable[[Header], bool]) -> None:
        self._sock = sock
        self._wants_body = wants_body
        self._budget = 0
        self._fds: list[int] = []
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
        close_all(self._fds)
        self._fds = []

    def _read_messages(self) -> Generator[Incoming | None, None, None]:
        while True:
            data = yield from self._take(FIXED_BYTES)
            extent = parse_extent(data)
            rest = extent.header_bytes - FIXED_BYTES
            if extent.header_bytes > MAX_HEADER_BYTES:
                yield from self._pass_over(rest + extent.body_bytes)
                self._drop_fds()
                continue
            data += yield from self._take(rest)
            try:
                header = parse_header(data)
            except Malformed:
                yield from self._pass_over(extent.body_bytes)
                self._drop_fds()
                continue
            body, problem = yield from self._read_body(header)
            fds, self._fds = self._fds, []
            yield Incoming(header, body, fds, problem)

    def _read_body(
        self, header: Header
    ) -> Generator[None, None, tuple[list[object] | None, Problem | None]]:
        problem = None
        if not self._wants_body(header):
            problem = Problem.UNWANTED
        elif header.body_bytes > MAX_BODY_BYTES:
            problem = Problem.TOO_LARGE
        if problem is not None:
            yield from self._pass_over(header.body_bytes)
            return None, problem
        data = yield from self._take(header.body_bytes)
        try:
            return parse_body(header, data), None
        except Malformed:
            return None, Problem.MALFORMED

    def _take(self, size: int) -> Generator[None, None, bytearray]:
        data = bytearray()
        while len(data) < size:
            piece = self._receive(size - len(data))
            if not piece:
                yield None
            data += piece
        return data

    def _pass_over(self, size: int) -> Generator[None, None, None]:
        while size:
            passed = len(self._receive(size))
            if not passed:
                yield None
            size -= passed

    def _drop_fds(self) -> None:
        close_all(self._fds)
        self._fds = []

    def _receive(self, size: int) -> bytes:
        """Up to `size` bytes; none if there are none now or the turn is used up."""
        if self._budget <= 0:
            return b""
        try:
            data, ancillary, *_ = self._sock.recvmsg(
                min(size, self._budget),
                socket.CMSG_SPACE(_MAX_FDS * _FD_BYTES),
                socket.MSG_CMSG_CLOEXEC,
            )
        except (BlockingIOError, InterruptedError):
            return b""
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds += array("i", payload[: len(payload) // _FD_BYTES * _FD_BYTES])
        if not data:
            raise EOFError("the bus closed the connection")
        self._budget -= len(data)
        return data
