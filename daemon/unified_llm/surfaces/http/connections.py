"""Who is connected, how many of them there may be, and what ends the work done for them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import Closing, QueueFull, RateLimited, UnifiedLlmError
from unified_llm.domain.units import Seconds
from unified_llm.surfaces.http.limits import HttpLimits


class ClientGoneError(Exception):
    """The client has left. Nobody is there to be told."""


class Peer:
    """The other end of one connection.

    caller: who it is. What runs for it runs in `open_scope`, and ends when it is interrupted.
    """

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._reason: Exception | None = None
        self._scope: asyncio.Timeout | None = None

    @asynccontextmanager
    async def open_scope(self) -> AsyncIterator[None]:
        """Run the body until it ends or `interrupt` is called, and raise what that was called with.

        A connection serves one request at a time, so there is one scope at a time.
        """
        self.ensure_wanted()
        # A timeout without a deadline is the standard library's cancel scope: it tells its own
        # cancellation from that of others.
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                yield
        except TimeoutError as error:
            if scope.expired():
                self.ensure_wanted(error)
            raise
        finally:
            self._scope = None

    def interrupt(self, reason: Exception) -> None:
        """End the running scope, and any later one, with `reason`. The first reason counts."""
        if self._reason is None:
            self._reason = reason
            if self._scope is not None:
                self._scope.reschedule(asyncio.get_running_loop().time())

    def ensure_wanted(self, cause: Exception | None = None) -> None:
        """Raise what `interrupt` was called with, if it was."""
        if self._reason is not None:
            raise self._reason from cause


class Connection(Protocol):
    """What the register needs of a connection."""

    peer: Peer

    def shutdown(self) -> None:
        """Close when the running answer, if there is one, is complete."""

    def abort(self) -> None:
        """Close now, whatever is unsent."""


class Connections:
    """The register of open connections, counted per user."""

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._open: set[Connection] = set()
        self._by_uid: Counter[int] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._open)

    def refusal(self, uid: int) -> UnifiedLlmError | None:
        """Why `uid` may not have one more connection; None if it may."""
        limits = self._limits
        if self._is_closing:
            return Closing("The daemon is stopping.", retry_after=Seconds(5))
        if len(self._open) >= limits.connections:
            return QueueFull(
                f"{limits.connections} connections are open, which is the most.",
                retry_after=Seconds(1),
            )
        if self._by_uid[uid] >= limits.connections_per_uid:
            return RateLimited(
                f"uid {uid} has {limits.connections_per_uid} connections open, which is the most.",
                hint="Reuse connections, or close those not in use.",
                retry_after=Seconds(1),
            )
        return None

    def enter(self, connection: Connection) -> None:
        """Count `connection` until `leave`."""
        self._open.add(connection)
        self._by_uid[connection.peer.caller.uid] += 1
        self._empty.clear()

    def leave(self, connection: Connection) -> None:
        """Stop counting `connection`; harmless if it was not counted."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        uid = connection.peer.caller.uid
        self._by_uid[uid] -= 1
        if not self._by_uid[uid]:
            del self._by_uid[uid]
        if not self._open:
            self._empty.set()

    async def close(self, grace: Seconds) -> None:
        """End every connection: idle ones now, busy ones after their answer or `grace`.

        What is cut short is told so. A client that does not read is cut off after that, so this
        ends whatever clients do.
        """
        self._is_closing = True
        for connection in tuple(self._open):
            connection.shutdown()
        await self._wait_empty(grace)
        for connection in tuple(self._open):
            connection.peer.interrupt(
                Closing("The daemon is stopping and has ended this answer.", retry_after=Seconds(5))
            )
        await self._wait_empty(self._limits.flush_seconds)
        for connection in tuple(self._open):
            connection.abort()
        await self._empty.wait()

    async def _wait_empty(self, limit: Seconds) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._empty.wait()
