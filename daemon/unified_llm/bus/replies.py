"""Calls of ours that wait for a reply: each ends with one, with a fault, or with its timeout."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from unified_llm.bus import faults
from unified_llm.bus.decoding import Header, Kind
from unified_llm.bus.names import DBUS_NAME
from unified_llm.bus.reading import Incoming, Problem
from unified_llm.bus.values import from_body
from unified_llm.domain.units import Seconds

_MAX_SERIAL: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A call without a reply so far; the result None means that the bus is lost."""

    destination: str
    reply: "asyncio.Future[Incoming | None]"

    def accepts(self, header: Header) -> bool:
        # Replies to a well-known name come from the unique name behind it.
        is_unique = self.destination.startswith(":")
        return not is_unique or header.sender in (self.destination, DBUS_NAME)


class Replies:
    """Hands out serial numbers, and each reply to whoever waits under its number."""

    def __init__(self) -> None:
        self._serial = 0
        self._awaited: dict[int, _Awaited] = {}

    def next_serial(self) -> int:
        """A number for a message; never zero, and used again after four billion messages."""
        self._serial = self._serial % _MAX_SERIAL + 1
        return self._serial

    async def wait(
        self, serial: int, destination: str, timeout: Seconds, send: Callable[[], None]
    ) -> Incoming | None:
        """Call `send`, then wait for the reply to `serial`; None if the bus is lost.

        Raises BusFault (NoReply) after `timeout` seconds.
        """
        awaited = _Awaited(destination, asyncio.get_running_loop().create_future())
        self._awaited[serial] = awaited
        try:
            send()
            async with asyncio.timeout(timeout):
                return await awaited.reply
        except TimeoutError as exc:
            _close_unclaimed(awaited.reply)
            raise faults.BusFault(
                faults.NO_REPLY, f"{destination} has sent no reply in {timeout:g} s."
            ) from exc
        except asyncio.CancelledError:
            _close_unclaimed(awaited.reply)
            raise
        finally:
            del self._awaited[serial]

    def is_awaited(self, header: Header) -> bool:
        """Whether somebody waits for this reply, from this sender."""
        awaited = self._awaited.get(header.reply_serial)
        return awaited is not None and awaited.accepts(header)

    def deliver(self, incoming: Incoming) -> None:
        """Hand over a reply, or close its descriptors if nobody waits for it."""
        awaited = self._awaited.get(incoming.header.reply_serial)
        if awaited is None or not awaited.accepts(incoming.header) or awaited.reply.done():
            incoming.close_fds()
        else:
            awaited.reply.set_result(incoming)

    def end(self) -> None:
        """Tell everybody who waits that the bus is lost."""
        for awaited in self._awaited.values():
            if not awaited.reply.done():
                awaited.reply.set_result(None)


def values_of(reply: Incoming, expects: str | None) -> tuple[object, ...]:
    """What a reply holds; descriptors now belong to the caller. Raises BusFault.

    expects: signature it must have; None for any.
    """
    body = reply.parse()
    fault = _fault_of(reply, body, expects)
    if fault is not None:
        reply.close_fds()
        raise fault
    try:
        values = from_body(reply.header.signature, body or (), reply.fds)
    except ValueError as exc:
        reply.close_fds()
        raise faults.BusFault(faults.INVALID_SIGNATURE, f"The reply has {exc}.") from exc
    if "h" not in reply.header.signature:
        reply.close_fds()
    return values


def _fault_of(
    reply: Incoming, body: list[object] | None, expects: str | None
) -> faults.BusFault | None:
    header = reply.header
    if body is None:
        problem = reply.problem or Problem.MALFORMED
        return faults.BusFault(
            faults.LIMITS_EXCEEDED, f"The reply of {header.sender} is {problem}."
        )
    if header.kind is Kind.ERROR:
        text = str(body[0]) if header.signature.startswith("s") else header.error_name
        return faults.BusFault(header.error_name, text)
    if expects is not None and header.signature != expects:
        text = f"The reply of {header.sender} is {header.signature!r}, not {expects!r}."
        return faults.BusFault(faults.INVALID_SIGNATURE, text)
    return None


def _close_unclaimed(reply: "asyncio.Future[Incoming | None]") -> None:
    if not reply.cancelled() and reply.done() and (incoming := reply.result()) is not None:
        incoming.close_fds()
