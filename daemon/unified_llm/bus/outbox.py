"""Messages that nobody answers: calls that want no reply, replies, refusals, signals."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from unified_llm.bus import encoding
from unified_llm.bus.decoding import Header

_Parts = ParamSpec("_Parts")


class Outbox:
    """Numbers, encodes and sends them; what a connection is to those who only tell.

    next_serial: of the connection. send: queues a frame; returns at once.
    """

    def __init__(
        self, next_serial: Callable[[], int], send: Callable[[encoding.Frame], None]
    ) -> None:
        self._next_serial = next_serial
        self._queue = send

    def begin_call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *values: object,
    ) -> None:
        """Call a method of a service that runs, and want no reply."""
        self._post(
            encoding.encode_call,
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            values=values,
            flags=encoding.NO_REPLY_EXPECTED | encoding.NO_AUTOSTART,
        )

    def begin_reply(self, call: Header, signature: str, *values: object) -> None:
        """Answer `call`; descriptors stay the caller's. Raises TooLarge, TypeError, ValueError."""
        if not call.flags & encoding.NO_REPLY_EXPECTED:
            self._post(encoding.encode_return, call, signature, values)

    def begin_error(self, call: Header, name: str, text: str) -> None:
        """Refuse `call`."""
        if not call.flags & encoding.NO_REPLY_EXPECTED:
            self._post(encoding.encode_error, call, name, text)

    def emit(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *values: object,
        to: str | None = None,
    ) -> None:
        """Send a signal to everybody on the bus, or to the unique name `to` alone."""
        self._post(
            encoding.encode_signal,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            values=values,
            destination=to,
        )

    def _post(
        self,
        encode: Callable[Concatenate[int, _Parts], encoding.Frame],
        *parts: _Parts.args,
        **named: _Parts.kwargs,
    ) -> None:
        self._queue(encode(self._next_serial(), *parts, **named))
