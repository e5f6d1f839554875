"""The door itself: uvicorn, waiting for events instead of looking around ten times a second."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from unified_llm.domain.callers import Caller
from unified_llm.domain.units import Seconds
from unified_llm.surfaces.http.connections import Connections
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.surfaces.http.protocol import DeadlineProtocol

_BACKLOG = 1024


class HttpDoor:
    """Serves an application on listening Unix sockets."""

    def __init__(
        self, app: ASGIApp, listeners: Sequence[socket.socket], limits: HttpLimits | None = None
    ) -> None:
        limits = limits or HttpLimits()
        self._listeners = list(listeners)
        self._connections = Connections(limits)
        config, self._protocol = _configure(app, self._connections, limits)
        self._server = _Server(config, self._connections, limits.flush_seconds)
        self._ended = asyncio.Event()

    @property
    def opened(self) -> asyncio.Event:
        """Set once connections are accepted."""
        return self._server.opened

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def run(self) -> None:
        """Serve until `close` is called. Takes over the listeners: they are closed at the end.

        Cancelled, it cuts off whoever is connected.
        """
        try:
            await self._server.serve(sockets=self._listeners)
        except asyncio.CancelledError:
            self._server.grace = Seconds(0)
            await self._server.shutdown(self._listeners)
            raise
        finally:
            self._ended.set()

    async def serve_connection(self, connected: socket.socket, caller: Caller) -> None:
        """Serve a connected, non-blocking stream socket, on which `caller` speaks.

        It is taken over. Who connected it does not matter: its maker vouches for `caller`.
        """
        factory = partial(
            self._protocol,
            self._server.config,
            self._server.server_state,
            {},
            caller=caller,
        )
        await asyncio.get_running_loop().connect_accepted_socket(factory, connected)

    def end_connections(self, connection: str) -> None:
        """Cut off what was opened for the caller known by this `connection`."""
        self._connections.abort(connection)

    async def close(self, grace: Seconds) -> None:
        """Stop accepting, let answers run for `grace` seconds, then end them, each with one error.

        Ends within `grace` and a few seconds, whether clients read or not.
        """
        self._server.grace = grace
        self._server.stop.set()
        await self._ended.wait()


class _Server(uvicorn.Server):
    """uvicorn's server without its clock, its signal handlers and its polling."""

    def __init__(
        self, config: uvicorn.Config, connections: Connections, flush_seconds: Seconds
    ) -> None:
        super().__init__(config)
        self._flush_seconds = flush_seconds
        self.servers = []  # uvicorn sets it at the start, and we may be cancelled before
        self.opened = asyncio.Event()
        self.stop = asyncio.Event()
        self.grace = Seconds(0)
        self._connections = connections

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the composition root."""
        yield

    async def main_loop(self) -> None:
        """Wait to be stopped."""
        self.opened.set()
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners, then the connections, then wait for what was done for them."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        await self._connections.close(self.grace)
        await self._end_tasks()
        for server in self.servers:
            await server.wait_closed()

    async def _end_tasks(self) -> None:
        """Wait for the tasks behind the connections, and cancel those that go on."""
        if tasks := set(self.server_state.tasks):
            _, left = await asyncio.wait(tasks, timeout=self._flush_seconds)
            for task in left:
                task.cancel()
            await asyncio.wait(tasks)


def _configure(
    app: ASGIApp, connections: Connections, limits: HttpLimits
) -> tuple[uvicorn.Config, "partial[DeadlineProtocol]"]:
    protocol = partial(DeadlineProtocol, connections=connections, limits=limits, numbers=count(1))
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        lifespan="off",
        interface="asgi3",
        loop="none",
        proxy_headers=False,  # who is asking comes from the kernel alone
        server_header=False,
        date_header=False,  # would need a clock that ticks
        access_log=False,  # the audit log knows
        log_config=None,
        log_level="error",  # its warnings are about requests, which anyone could flood the log with
        backlog=_BACKLOG,
        timeout_keep_alive=max(1, round(limits.idle_seconds)),
    )
    return config, protocol
