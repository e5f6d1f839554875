"""Messages on their way out: from values to bytes and descriptors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dbus_next.constants import MessageFlag, MessageType
from dbus_next.message import Message

from unified_llm.bus.decoding import Header
from unified_llm.bus.values import to_body
from unified_llm.domain.errors import TooLarge
from unified_llm.domain.units import render_bytes

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""What the bus takes; it disconnects whoever sends more (`max_message_size` of dbus-daemon)."""

NO_REPLY_EXPECTED: Final = 0x1
NO_AUTOSTART: Final = 0x2
ALLOW_INTERACTIVE_AUTHORIZATION: Final = 0x4


@dataclass(frozen=True, slots=True)
class Frame:
    """One message ready to be written; the descriptors still belong to whoever made it."""

    data: bytes
    fds: list[int] = field(default_factory=list)


def encode_call(
    serial: int,
    *,
    destination: str,
    path: str,
    interface: str,
    member: str,
    signature: str,
    values: Sequence[object],
    flags: int,
) -> Frame:
    """A method call. Raises TypeError or ValueError when the values do not fit."""
    return _encode(
        serial,
        signature,
        values,
        message_type=MessageType.METHOD_CALL,
        flags=MessageFlag(flags),
        destination=destination,
        path=path,
        interface=interface,
        member=member,
    )


def encode_return(serial: int, call: Header, signature: str, values: Sequence[object]) -> Frame:
    """The answer to `call`. Raises TooLarge, TypeError, ValueError."""
    return _encode(
        serial,
        signature,
        values,
        message_type=MessageType.METHOD_RETURN,
        reply_serial=call.serial,
        destination=call.sender or None,
    )


def encode_error(serial: int, call: Header, name: str, text: str) -> Frame:
    """The refusal of `call`."""
    return _encode(
        serial,
        "s",
        (text,),
        message_type=MessageType.ERROR,
        error_name=name,
        reply_serial=call.serial,
        destination=call.sender or None,
    )


def encode_signal(
    serial: int,
    *,
    path: str,
    interface: str,
    member: str,
    signature: str,
    values: Sequence[object],
    destination: str | None,
) -> Frame:
    """A signal to everybody, or to `destination` alone. Raises TooLarge, TypeError, ValueError."""
    return _encode(
        serial,
        signature,
        values,
        message_type=MessageType.SIGNAL,
        path=path,
        interface=interface,
        member=member,
        destination=destination,
    )


def _encode(serial: int, signature: str, values: Sequence[object], **fields: Any) -> Frame:
    body, fds = to_body(signature, values)
    message = Message(serial=serial, signature=signature, body=body, unix_fds=fds, **fields)
    data = bytes(message._marshall(negotiate_unix_fd=True))  # type: ignore[no-untyped-call]  # noqa: SLF001
    if len(data) > MAX_MESSAGE_BYTES:
        raise TooLarge(
            f"The message has {render_bytes(len(data))}; "
            f"the bus takes {render_bytes(MAX_MESSAGE_BYTES)}."
        )
    return Frame(data, fds)
