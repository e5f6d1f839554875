"""Who is connected, how many of them there may be, and what ends the work done for them."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Protocol

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import (
    Cancelled,
    Closing,
    QueueFull,
    RateLimited,
    UnifiedLlmError,
)
from unified_llm.domain.units import Seconds
from unified_llm.operations.interruption import Interruptible
from unified_llm.surfaces.http.limits import HttpLimits


class Peer(Interruptible):
    """The other end of one connection; what runs for it ends when it leaves.

    caller: who it is. is_gone: nobody is there to be told anything.
    """

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self.caller = caller
        self.is_gone = False

    def leave(self) -> None:
        """The client is gone: end what runs for it."""
        self.is_gone = True
        self.interrupt(Cancelled("The client has left."))


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
        self._open: dict[Connection, UnifiedLlmError | None] = {}
        self._by_uid: Counter[int] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Connection) -> UnifiedLlmError | None:
        """Keep `connection` until `leave`. Returns why it may not be served; None if it may."""
        uid = connection.peer.caller.uid
        refusal = self._open[connection] = self._refusal(uid)
        self._empty.clear()
        if refusal is None:
            self._by_uid[uid] += 1
        return refusal

    def leave(self, connection: Connection) -> None:
        """Forget `connection`; harmless if it never entered."""
        if connection not in self._open:
            return
        if self._open.pop(connection) is None:
            uid = connection.peer.caller.uid
            self._by_uid[uid] -= 1
            if not self._by_uid[uid]:
                del self._by_uid[uid]
        if not self._open:
            self._empty.set()

    @property
    def is_flooded(self) -> bool:
        """Whether even those that are being refused are too many."""
        return len(self._open) > 2 * self._limits.connections

    def _refusal(self, uid: int) -> UnifiedLlmError | None:
        limits = self._limits
        if self._is_closing:
            return Closing("The daemon is stopping.", retry_after=Seconds(5))
        if self._by_uid.total() >= limits.connections:
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

    def abort(self, connection: str) -> None:
        """Cut off those whose caller is known by this `connection`."""
        for each in tuple(self._open):
            if each.peer.caller.connection == connection:
                each.abort()

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
