"""The HTTP API for somebody who came in by another door, as who they are there."""

import socket
from dataclasses import dataclass
from typing import Protocol

from unified_llm.domain.callers import Caller
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Gate


class ServesConnections(Protocol):
    """What serves the HTTP API."""

    async def serve_connection(self, connected: socket.socket, caller: Caller) -> None:
        """Serve a connected stream socket, on which `caller` speaks; it is taken over."""

    def end_connections(self, connection: str) -> None:
        """Cut off what was opened for the caller known by this `connection`."""


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """Hands out connections to the HTTP API."""

    gate: Gate
    server: ServesConnections

    async def open_connection(self, caller: Caller) -> socket.socket:
        """The client's end of a connection that is served as `caller`; the taker's to close.

        The caller needs the leave to generate with any model. Raises NotPermitted.
        """
        with self.gate.open_entry(caller, Action.GENERATE, "http connection", only_refusals=True):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                ours.setblocking(False)
                await self.server.serve_connection(ours, caller)
            except BaseException:
                ours.close()
                theirs.close()
                raise
            return theirs

    def owner_vanished(self, connection: str) -> None:
        """End what dies with its caller."""
        self.server.end_connections(connection)
