"""Messages on their way in: from bytes to a header and values, without trusting either.

The library parses a body before anybody knows whether it is wanted, and one that it cannot parse
ends the connection. Here the header comes first, and what is wrong with a message costs only that
message.
"""

import struct
from enum import IntEnum
from typing import Any, Final, NamedTuple

from dbus_next._private.constants import BIG_ENDIAN, LITTLE_ENDIAN, PROTOCOL_VERSION
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.signature import SignatureType

from unified_llm.bus.values import Variant, parse_signature

FIXED_BYTES: Final = 16
"""What every message begins with: enough to know how long it is."""

MAX_CALL_VALUES: Final = 16 * 1024
"""Values in the arguments of one call, containers counted too; 2,048 messages are 6,145."""

# The specification has nine; the bus lets no message through that has one of them twice.
_MAX_FIELDS: Final = 32


class Kind(IntEnum):
    """Message types of the D-Bus specification."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


class Malformed(Exception):
    """Bytes that are no message; only the message that holds them is lost."""


class BrokenFraming(Exception):
    """The length of a message cannot be told, so nothing after it can be read."""


class Extent(NamedTuple):
    """How long a message is. `header_bytes` includes the fixed part and the padding."""

    big_endian: bool
    header_bytes: int
    body_bytes: int


class Header(NamedTuple):
    """A message but for its body. Fields a message does not have are empty or zero.

    fds: how many descriptors come with it.
    """

    kind: Kind
    flags: int
    serial: int
    body_bytes: int
    big_endian: bool
    path: str = ""
    interface: str = ""
    member: str = ""
    error_name: str = ""
    reply_serial: int = 0
    destination: str = ""
    sender: str = ""
    signature: str = ""
    fds: int = 0


# By number: the types that the D-Bus specification gives the fields, in the order of Header.
_FIELD_TYPES: Final = (0, *b"osssussgu")
_NO_FIELDS: Final = (None, *(Header._field_defaults[name] for name in Header._fields[5:]))
_SIMPLE: Final = b"gosu"
_SIGNATURE, _NUMBER = b"gu"
_FIELD: Final = {False: struct.Struct("<4BI").unpack_from, True: struct.Struct(">4BI").unpack_from}
_NUMBERS: Final = {False: struct.Struct("<3I").unpack_from, True: struct.Struct(">3I").unpack_from}


def parse_extent(fixed: bytes | bytearray) -> Extent:
    """The lengths in the first FIXED_BYTES. Raises BrokenFraming."""
    if fixed[0] not in (LITTLE_ENDIAN, BIG_ENDIAN) or fixed[3] != PROTOCOL_VERSION:
        raise BrokenFraming(f"no D-Bus message begins with {bytes(fixed[:4])!r}")
    big_endian = fixed[0] == BIG_ENDIAN
    body_bytes, _serial, array_bytes = _NUMBERS[big_endian](fixed, 4)
    header_bytes = FIXED_BYTES + array_bytes + (-array_bytes & 7)
    return Extent(big_endian, header_bytes, body_bytes)


def parse_header(data: bytes | bytearray) -> Header:
    """The header in `data`, which holds it whole. Raises Malformed.

    Every message of a flood is read as far as this, so it walks the fields by itself: the library
    takes some ten times as long.
    """
    big_endian = data[0] == BIG_ENDIAN
    body_bytes, serial, array_bytes = _NUMBERS[big_endian](data, 4)
    try:
        kind = Kind(data[1])
        fields = _parse_fields(data, FIXED_BYTES + array_bytes, big_endian=big_endian)
    except (ValueError, IndexError, struct.error) as exc:
        raise Malformed(str(exc)) from exc
    return Header(kind, data[2], serial, body_bytes, big_endian, *fields)


def _parse_fields(data: bytes | bytearray, end: int, *, big_endian: bool) -> list[Any]:
    """The values of the fields in the order of Header. Raises ValueError, IndexError, struct.error.

    An array of structs of a number and a variant, each at a multiple of eight: number, signature
    ("\\1s\\0"), value.
    """
    unpack = _FIELD[big_endian]
    found: list[Any] = list(_NO_FIELDS)
    at = FIXED_BYTES
    for _ in range(_MAX_FIELDS):
        if at >= end:
            break
        number, length, type_, nul, size = unpack(data, at)
        if length != 1 or nul or type_ not in _SIMPLE:
            raise ValueError(f"header field {number} is no text and no number")
        value, after = size, at + 8
        if type_ != _NUMBER:
            begin, size = (at + 5, data[at + 4]) if type_ == _SIGNATURE else (after, size)
            value, after = data[begin : begin + size].decode(), begin + size + 1
        if after > end:
            raise ValueError(f"header field {number} goes beyond the header")
        if 0 < number < len(found):
            if type_ != _FIELD_TYPES[number]:
                raise ValueError(f"header field {number} has type {chr(type_)!r}")
            found[number] = value
        at = after + 7 & ~7
    else:
        raise ValueError(f"more than {_MAX_FIELDS} header fields")
    return found[1:]


def parse_body(header: Header, data: bytes | bytearray) -> list[object]:
    """The values in a body. Raises Malformed."""
    if not data and not header.signature:
        return []
    try:
        most = MAX_CALL_VALUES if header.kind is Kind.CALL else None
        return _decode(data, header.signature, big_endian=header.big_endian, most=most)
    except (ValueError, TypeError, RecursionError) as exc:
        raise Malformed(str(exc)) from exc


def _decode(
    data: bytes | bytearray,
    signature: str,
    *,
    big_endian: bool,
    most: int | None = None,
) -> list[Any]:
    decoder = _Decoder(data, big_endian=big_endian, most=most)
    return [decoder.read_argument(kind) for kind in parse_signature(signature).types]


class _Decoder(Unmarshaller):
    """The library's readers over bytes that are all there.

    most: how many values there may be; None for any number.
    """

    def __init__(self, data: bytes | bytearray, *, big_endian: bool, most: int | None) -> None:
        super().__init__(stream=None)  # type: ignore[no-untyped-call]
        self._most = most
        self._count = 0
        self.buf = bytearray(data)
        self.endian = BIG_ENDIAN if big_endian else LITTLE_ENDIAN

    def read(self, n: int, prefetch: bool = False) -> int:
        """Step over `n` bytes. Raises ValueError past the end."""
        begin: int = self.offset
        if begin + n > len(self.buf):
            raise ValueError(f"{n} bytes expected at {begin} of {len(self.buf)}")
        if not prefetch:
            self.offset = begin + n
        return begin

    def read_argument(self, type_: SignatureType) -> Any:
        """The value of that type at the present place, counted. Raises ValueError, TypeError."""
        self._count += 1
        if self._most is not None and self._count > self._most:
            raise ValueError(f"more than {self._most} values")
        return super().read_argument(type_)  # type: ignore[no-untyped-call]

    def read_variant(self, _: object = None) -> Variant:
        """A variant whose signature stays out of the library's unbounded memory of signatures."""
        types = parse_signature(self.read_signature()).types  # type: ignore[no-untyped-call]
        if len(types) != 1:
            raise ValueError(f"a variant of {len(types)} types")
        return Variant(types[0], self.read_argument(types[0]))
