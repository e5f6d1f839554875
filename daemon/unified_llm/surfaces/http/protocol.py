"""uvicorn's HTTP/1.1 protocol with what it lacks: deadlines, limits and the peer's identity.

uvicorn 0.54 kept every half-sent request open for ever and held a client that never read.

Rule 1: while we wait for the client exactly one deadline runs (idle, head, or body); while the
client waits for us, none does.
Rule 2: while bytes of ours lie unread, the write deadline runs, also after the connection's end.
Rule 3: a deadline is one timer of the loop; an idle connection costs no wake-up before it.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.units import Seconds
from unified_llm.guard.peers import read_caller
from unified_llm.surfaces.http.connections import Connections, Peer
from unified_llm.surfaces.http.corked import CorkedTransport
from unified_llm.surfaces.http.intake import Intake
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.wire.problem import INVALID, DoorCode, HttpProblem, describe

PEER_KEY = "peer"
"""Where in an ASGI scope's state the Peer is."""

BYTES_PER_TURN = 32 * 1024
"""Read of one client in one turn of the event loop: it may be 5,000 chunks of one byte, each of
which is an event to h11. With asyncio's 256 KiB the others waited a third of a second."""

# A client that was refused at once may still be writing its request; it gets to finish.
_REFUSED_SECONDS = Seconds(1)


class _Awaited(Enum):
    """What we wait for from the client."""

    REQUEST = auto()
    HEAD = auto()
    BODY = auto()
    NOTHING = auto()


class DeadlineProtocol(H11Protocol):
    """One connection of the door. caller: who speaks on it; None for who the kernel says it is."""

    peer: Peer

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
        limits: HttpLimits,
        numbers: Iterator[int],
        caller: Caller | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = self._intake = Intake(limits)
        self._connections = connections
        self._limits = limits
        self._number = next(numbers)
        self._caller = caller
        self._refusal: UnifiedLlmError | None = None
        self._awaited: tuple[_Awaited, object] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Find out who it is; without an identity nobody is let in."""
        super().connection_made(transport)
        self.transport = CorkedTransport(transport, self.loop)
        # Every byte the kernel does not take is a client not reading: the write deadline runs.
        transport.set_write_buffer_limits(high=0)
        transport.max_size = BYTES_PER_TURN  # type: ignore[attr-defined]
        connected = cast("socket.socket", transport.get_extra_info("socket"))
        try:
            self.peer = Peer(self._caller or read_caller(connected, f"http:{self._number}"))
        except OSError:
            transport.abort()
            return
        self.app_state = {PEER_KEY: self.peer}
        self._refusal = self._connections.enter(self)
        if self._refusal is None:
            self._watch()
        elif self._connections.is_flooded:
            transport.abort()
        else:
            self._arm(_REFUSED_SECONDS, self._refuse)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop everything that was done for this client."""
        super().connection_lost(exc)
        self._disarm()
        self.resume_writing()
        if hasattr(self, "peer"):
            self._connections.leave(self)
            self.peer.leave()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and set the deadline for the next ones."""
        if self._refusal is not None:
            self._refuse()
            return
        super().data_received(data)
        self._watch()

    def eof_received(self) -> None:
        """The client says no more, and asyncio closes: what has been answered goes out first."""
        self.transport.close()

    def on_response_complete(self) -> None:
        """Go on with the next request of this connection."""
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the idle deadline is one of ours
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not served. uvicorn calls this for each RemoteProtocolError."""
        self._answer(
            self._intake.problem or HttpProblem(400, INVALID, DoorCode.MALFORMED_HTTP, msg)
        )

    def pause_writing(self) -> None:
        """The client has stopped reading."""
        super().pause_writing()
        self._stall = self.loop.call_later(self._limits.write_seconds, self.abort)

    def resume_writing(self) -> None:
        """The client has read everything, or is gone."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def shutdown(self) -> None:
        """Close when the running answer, if there is one, is complete."""
        cycle = self._open_cycle()
        if cycle is None:
            self.transport.close()
        else:
            cycle.keep_alive = False

    def abort(self) -> None:
        """Close now, whatever is unsent."""
        self.transport.abort()

    def _watch(self) -> None:
        if self.transport.is_closing():
            self._disarm()
            return
        awaited = self._find_awaited()
        # The request is part of it: idle after one request is not idle after the next.
        state = (awaited, self.cycle)
        if state == self._awaited:
            return
        self._disarm()
        self._awaited = state
        if awaited is _Awaited.REQUEST:
            self._arm(self._limits.idle_seconds, self.transport.close)
        elif awaited is _Awaited.HEAD:
            self._arm(self._limits.head_seconds, self._head_is_late)
        elif awaited is _Awaited.BODY:
            self._arm(self._limits.body_seconds, self._body_is_late)

    def _find_awaited(self) -> _Awaited:
        theirs = self.conn.their_state
        if theirs is h11.SEND_BODY:
            return _Awaited.BODY
        has_bytes = bool(self.conn.trailing_data[0])
        if theirs is h11.IDLE:
            return _Awaited.HEAD if has_bytes else _Awaited.REQUEST
        if not has_bytes:
            # Reading goes on while we answer, or we would not see the client leave. uvicorn stops
            # it for bodies over 64 KiB. With bytes of a next request waiting it stays stopped, or
            # they would pile up.
            self.flow.resume_reading()
        return _Awaited.NOTHING

    def _head_is_late(self) -> None:
        self._answer(_late("head", self._limits.head_seconds))

    def _body_is_late(self) -> None:
        self._answer(_late("body", self._limits.body_seconds))

    def _refuse(self) -> None:
        if self._refusal is not None:
            self._answer(describe(self._refusal))

    def _answer(self, problem: HttpProblem) -> None:
        """Send `problem` unless an answer has begun, and end the connection."""
        if self.transport.is_closing():
            return
        self._disarm()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_render(problem))
        if (cycle := self._open_cycle()) is not None:
            # What it writes from now on must not follow our answer onto the wire.
            cycle.disconnected = True
            cycle.message_event.set()
            self.peer.leave()
        self.transport.close()

    def _open_cycle(self) -> RequestResponseCycle | None:
        """The request being answered; None between requests."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle

    def _arm(self, delay: Seconds, action: Callable[[], None]) -> None:
        self._deadline = self.loop.call_later(delay, action)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _late(part: str, limit: Seconds) -> HttpProblem:
    message = f"The {part} of the request took more than {limit:g} seconds to arrive."
    return HttpProblem(408, INVALID, DoorCode.REQUEST_TOO_SLOW, message)


def _render(problem: HttpProblem) -> bytes:
    """The whole answer, written past h11, whose state may no longer allow one."""
    body = problem.encode()
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **problem.headers(),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    phrase = STATUS_PHRASES[problem.status].decode()
    return f"HTTP/1.1 {problem.status} {phrase}\r\n{head}\r\n".encode() + body
