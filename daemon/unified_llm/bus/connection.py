"""One connection to a message bus, which no peer can end, stall or fill.

It uses dbus-next for the wire format (values, signatures, marshalling, addresses) and leaves out
its MessageBus, which any local user can take off the bus.

    async with open_connection() as bus:
        (answer,) = await bus.call("org.x", "/org/x", "org.x.I", "Get", "s", "key", expects="s")

Rules:
1. A signal or reply counts only with the sender that the bus wrote on it.
2. A call ends with a reply, a fault, or its timeout; the end of the connection is a fault.
3. Losing the bus is final: `wait_closed` returns, and the program should end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol, cast

from unified_llm.bus import encoding, faults
from unified_llm.bus.decoding import Header, Kind
from unified_llm.bus.handshake import connect, system_bus_address
from unified_llm.bus.names import BUS_NAME, DBUS_NAME, DBUS_PATH, ROOT_PATH
from unified_llm.bus.outbox import Outbox
from unified_llm.bus.reading import Incoming
from unified_llm.bus.replies import Replies, values_of
from unified_llm.bus.stream import MessageStream
from unified_llm.domain.ports import Unsubscribe
from unified_llm.domain.units import Seconds

CALL_SECONDS: Final = Seconds(25)
"""How long other bindings wait for a reply unless told otherwise."""

VANISHED_RULE: Final = (
    f"type='signal',sender='{DBUS_NAME}',path='{DBUS_PATH}',interface='{DBUS_NAME}',"
    "member='NameOwnerChanged',arg2=''"
)
"""Matches names that end, and no others: one rule for all, in force before any call is answered,
so there is no race with a caller that leaves and no limit on how many are watched."""

_FLUSH_SECONDS: Final = 1.0
# Sent to ourselves alone, so it stands in no interface file.
_OWN_INTERFACE: Final = f"{BUS_NAME}.Connection"
_ALIVE: Final = "Alive"
_DO_NOT_QUEUE: Final = 4
_PRIMARY_OWNER: Final = 1


@dataclass(frozen=True, slots=True)
class Signal:
    """A received signal; `sender` is a unique name, or `org.freedesktop.DBus`."""

    sender: str
    path: str
    interface: str
    member: str
    body: tuple[object, ...]


class CallServer(Protocol):
    """Answers method calls."""

    def is_noise(self, header: bytes) -> bool:
        """Whether the message with this header is not worth reading the header; asked of all."""

    def wants_body(self, header: Header) -> bool:
        """Whether the arguments of this call are worth parsing."""

    def on_call(self, incoming: Incoming) -> None:
        """Take a call, and its descriptors."""


SignalCallback = Callable[[Signal], None]
VanishedCallback = Callable[[str], None]
LostCallback = Callable[[str], None]


class BusConnection(Outbox):
    """Calls, signals and names on one connection; made by `open_connection`.

    unique_name: what the bus calls us.
    """

    def __init__(self) -> None:
        self._replies = Replies()
        super().__init__(self._replies.next_serial, self._send)
        self.unique_name = ""
        self._stream: MessageStream | None = None
        self._server: CallServer | None = None
        self._listeners: dict[tuple[str, str], list[tuple[str, SignalCallback]]] = {}
        self._on_lost_callbacks: list[LostCallback] = []
        self._lost_because = "not connected"
        self._closed = asyncio.Event()

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *values: object,
        expects: str | None = None,
        timeout: Seconds = CALL_SECONDS,
        flags: int = encoding.NO_AUTOSTART,
    ) -> tuple[object, ...]:
        """The values of the reply; descriptors among them now belong to the caller.

        expects: signature the reply must have. timeout: seconds to wait for it.
        flags: those of `encoding`.
        Raises BusFault: what the other end answered, NoReply, Disconnected or InvalidSignature.
        """
        serial = self._replies.next_serial()
        frame = encoding.encode_call(
            serial,
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            values=values,
            flags=flags,
        )
        reply = None
        if not self._closed.is_set():
            reply = await self._replies.wait(
                serial, destination, timeout, lambda: self._send(frame)
            )
        if reply is None:
            raise faults.BusFault(faults.DISCONNECTED, f"Off the bus: {self._lost_because}.")
        return values_of(reply, expects)

    def on_signal(
        self, sender: str, interface: str, member: str, callback: SignalCallback
    ) -> Unsubscribe:
        """Call `callback` for each such signal of `sender`, a unique name or the bus itself.

        What the bus broadcasts arrives only with a rule added by `add_match`.
        """
        entry = (sender, callback)
        self._listeners.setdefault((interface, member), []).append(entry)

        def unsubscribe() -> None:
            entries = self._listeners.get((interface, member), [])
            if entry in entries:
                entries.remove(entry)

        return unsubscribe

    def on_name_vanished(self, callback: VanishedCallback) -> Unsubscribe:
        """Call `callback` with each bus name, unique or not, that has no owner any more."""
        return self.on_signal(
            DBUS_NAME, DBUS_NAME, "NameOwnerChanged", lambda signal: _tell(callback, signal)
        )

    def on_lost(self, callback: LostCallback) -> Unsubscribe:
        """Call `callback` with the reason when the connection has ended."""
        self._on_lost_callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in self._on_lost_callbacks:
                self._on_lost_callbacks.remove(callback)

        return unsubscribe

    async def add_match(self, rule: str) -> None:
        """Have the bus deliver what `rule` describes. Raises BusFault."""
        await self.call_bus("AddMatch", "s", rule)

    async def remove_match(self, rule: str) -> None:
        """Undo `add_match`. Raises BusFault."""
        await self.call_bus("RemoveMatch", "s", rule)

    async def call_bus(
        self, member: str, signature: str = "", *values: object, expects: str | None = None
    ) -> tuple[object, ...]:
        """Call a method of the bus itself. Raises BusFault."""
        return await self.call(
            DBUS_NAME, DBUS_PATH, DBUS_NAME, member, signature, *values, expects=expects
        )

    async def request_name(self, name: str) -> None:
        """Own `name` from now on. Raises NameTaken, or BusFault if the policy forbids it."""
        (answer,) = await self.call_bus("RequestName", "su", name, _DO_NOT_QUEUE, expects="u")
        if answer != _PRIMARY_OWNER:
            raise faults.NameTaken(
                faults.ADDRESS_IN_USE, f"{name} is owned by another process already."
            )

    async def ping(self, *, timeout: Seconds = CALL_SECONDS) -> None:
        """Send ourselves a signal through the bus: writing, routing and reading all work.

        A call of Peer.Ping would show no more and wake us once more, for the reply; an idle daemon
        does this several times a minute. Raises BusFault.
        """
        arrived = asyncio.Event()
        unsubscribe = self.on_signal(
            self.unique_name, _OWN_INTERFACE, _ALIVE, lambda signal: arrived.set()
        )
        try:
            self.emit(ROOT_PATH, _OWN_INTERFACE, _ALIVE, "", to=self.unique_name)
            async with asyncio.timeout(timeout):
                await arrived.wait()
        except TimeoutError as error:
            raise faults.BusFault(
                faults.NO_REPLY, f"Our own signal did not come back within {timeout:g} s."
            ) from error
        finally:
            unsubscribe()

    async def wait_closed(self) -> str:
        """Wait until the connection has ended; the reason."""
        await self._closed.wait()
        return self._lost_because

    def serve(self, server: CallServer | None) -> None:
        """Let `server` answer the calls from now on; None refuses them all."""
        self._server = server

    async def begin(self, address: str) -> None:
        """Connect and say hello; for `open_connection`. Raises BusFault."""
        self._stream = MessageStream(
            await connect(address),
            is_noise=self._is_noise,
            wants_body=self._wants_body,
            on_message=self._on_message,
            on_lost=self._on_lost,
        )
        (name,) = await self.call_bus("Hello", expects="s")
        self.unique_name = cast("str", name)
        await self.add_match(VANISHED_RULE)

    async def end(self) -> None:
        """Write what is queued, within a second, and close; for `open_connection`."""
        if self._stream is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._stream.drain()
        self._stream.close()
        self._on_lost("closed")

    def _send(self, frame: encoding.Frame) -> None:
        if self._stream is not None:
            self._stream.send(frame)

    def _is_noise(self, header: bytes) -> bool:
        return self._server is not None and self._server.is_noise(header)

    def _wants_body(self, header: Header) -> bool:
        match header.kind:
            case Kind.CALL:
                return self._server is not None and self._server.wants_body(header)
            case Kind.SIGNAL:
                return bool(self._listening(header))
            case _:
                return self._replies.is_awaited(header)

    def _on_message(self, incoming: Incoming) -> None:
        match incoming.header.kind:
            case Kind.CALL:
                self._on_call(incoming)
            case Kind.SIGNAL:
                self._on_signal(incoming)
            case _:
                self._replies.deliver(incoming)

    def _on_call(self, incoming: Incoming) -> None:
        if self._server is not None:
            self._server.on_call(incoming)
            return
        incoming.close_fds()
        self.begin_error(incoming.header, faults.UNKNOWN_OBJECT, "This program has no objects.")

    def _on_signal(self, incoming: Incoming) -> None:
        header, body = incoming.header, incoming.parse()
        incoming.close_fds()
        if body is None:
            return
        signal = Signal(header.sender, header.path, header.interface, header.member, tuple(body))
        for callback in self._listening(header):
            callback(signal)

    def _listening(self, header: Header) -> list[SignalCallback]:
        entries = self._listeners.get((header.interface, header.member), [])
        return [callback for sender, callback in entries if sender == header.sender]

    def _on_lost(self, reason: str) -> None:
        if self._closed.is_set():
            return
        self._lost_because = reason
        self._closed.set()
        self._replies.end()
        for callback in list(self._on_lost_callbacks):
            callback(reason)


@asynccontextmanager
async def open_connection(address: str | None = None) -> AsyncIterator[BusConnection]:
    """Connect to the bus at `address`, or to the system bus, and leave it in the end.

    Raises BusFault (Disconnected) if there is no bus.
    """
    bus = BusConnection()
    try:
        await bus.begin(address or system_bus_address())
        yield bus
    finally:
        await bus.end()


def _tell(callback: VanishedCallback, signal: Signal) -> None:
    name, _old_owner, new_owner = signal.body
    if not new_owner:
        callback(cast("str", name))
