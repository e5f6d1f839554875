"""The other end, for programs that ask the daemon something: calls, signals, streams.

Knows no operation. What the daemon refuses is raised as the domain error it was on the daemon's
side; what has no word in the domain (nobody owns the name, no bus) as BusFault.

    async with open_client() as client:
        job, path = await client.call(ROOT_PATH, MANAGER_INTERFACE, "LoadModel", "sa{sv}", id, {})
        (result, details) = await client.call(path, JOB_INTERFACE, "Wait", timeout=FOREVER)
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Final, cast

from unified_llm.bus import faults
from unified_llm.bus.connection import CALL_SECONDS, BusConnection, Signal, open_connection
from unified_llm.bus.encoding import ALLOW_INTERACTIVE_AUTHORIZATION, NO_AUTOSTART
from unified_llm.bus.names import BUS_NAME, PROPERTIES_INTERFACE
from unified_llm.bus.values import unwrap
from unified_llm.domain.units import Seconds

FOREVER: Final = Seconds(10 * 365 * 24 * 3600)
"""For calls that answer when something has ended. The bus itself sets no limit."""

MAX_LINE_BYTES: Final = 16 * 1024 * 1024


class BusClient:
    """Asks the owner of `name`; made by `open_client`."""

    def __init__(self, bus: BusConnection, name: str) -> None:
        self._bus = bus
        self._name = name

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *values: object,
        expects: str | None = None,
        timeout: Seconds = CALL_SECONDS,
        may_interact: bool = True,
        may_start: bool = True,
    ) -> tuple[object, ...]:
        """The values of the reply.

        expects: signature the reply must have. timeout: seconds to wait for it.
        may_interact: allow that the person is asked for a password.
        may_start: have the daemon started if it is not running.
        Raises UnifiedLlmError, BusFault.
        """
        flags = ALLOW_INTERACTIVE_AUTHORIZATION if may_interact else 0
        try:
            return await self._bus.call(
                self._name,
                path,
                interface,
                member,
                signature,
                *values,
                expects=expects,
                timeout=timeout,
                flags=flags if may_start else flags | NO_AUTOSTART,
            )
        except faults.BusFault as exc:
            raise faults.parse_fault(exc) from exc

    async def get_properties(self, path: str, interface: str) -> dict[str, object]:
        """The plain values of every property. Raises UnifiedLlmError, BusFault."""
        (values,) = await self.call(
            path, PROPERTIES_INTERFACE, "GetAll", "s", interface, expects="a{sv}"
        )
        return cast("dict[str, object]", unwrap(values))

    @asynccontextmanager
    async def open_signals(self, interface: str, member: str) -> AsyncIterator["Signals"]:
        """The signals the daemon sends from now on; open before asking for what causes them.

        Raises BusFault if the daemon does not run.
        """
        (owner,) = await self._bus.call_bus("GetNameOwner", "s", self._name, expects="s")
        sender = cast("str", owner)
        signals = Signals(sender)
        rule = f"type='signal',sender='{sender}',interface='{interface}',member='{member}'"
        with ExitStack() as stack:
            stack.callback(self._bus.on_signal(sender, interface, member, signals.put))
            stack.callback(self._bus.on_name_vanished(signals.on_name_vanished))
            stack.callback(self._bus.on_lost(signals.end))
            await self._bus.add_match(rule)
            try:
                yield signals
            finally:
                # The bus has removed the rule already if the sender, or the connection, is gone.
                with suppress(faults.BusFault):
                    await self._bus.remove_match(rule)


class Signals:
    """Signals in the order of their arrival; `async for` over it raises BusFault at the end."""

    def __init__(self, sender: str) -> None:
        self._sender = sender
        self._arrived: asyncio.Queue[Signal | None] = asyncio.Queue()
        self._ended_because = ""

    def put(self, signal: Signal) -> None:
        """Take a signal."""
        self._arrived.put_nowait(signal)

    def end(self, reason: str) -> None:
        """No more will come."""
        self._ended_because = reason
        self._arrived.put_nowait(None)

    def on_name_vanished(self, name: str) -> None:
        """End if that was the sender."""
        if name == self._sender:
            self.end("the daemon has left the bus")

    def __aiter__(self) -> "Signals":
        return self

    async def __anext__(self) -> Signal:
        signal = await self._arrived.get()
        if signal is None:
            self._arrived.put_nowait(None)
            raise faults.BusFault(faults.DISCONNECTED, f"No more signals: {self._ended_because}.")
        return signal


@asynccontextmanager
async def open_client(
    address: str | None = None, *, name: str = BUS_NAME
) -> AsyncIterator[BusClient]:
    """Connect to the bus at `address`, or to the system bus, as a client of `name`.

    Raises BusFault (Disconnected) if there is no bus.
    """
    async with open_connection(address) as bus:
        yield BusClient(bus, name)


@asynccontextmanager
async def open_stream(fd: int) -> AsyncIterator[asyncio.StreamReader]:
    """Read a pipe or socket that a call has returned; it is closed in the end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    pipe = os.fdopen(fd, "rb", buffering=0)
    try:
        transport, _protocol = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
    except BaseException:
        pipe.close()
        raise
    try:
        yield reader
    finally:
        transport.close()
        # The transport closes the descriptor in the next turn of the loop.
        await asyncio.sleep(0)
