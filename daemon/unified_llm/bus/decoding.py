"""Messages on their way in: from bytes to a header and values, without trusting either.

The library parses a body before anybody knows whether it is wanted, and one that it cannot parse
ends the connection. Here the header comes first, and what is wrong with a message costs only that
message.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from dbus_next._private.constants import BIG_ENDIAN, LITTLE_ENDIAN, PROTOCOL_VERSION
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.signature import SignatureType

from unified_llm.bus.values import Variant, parse_signature

FIXED_BYTES: Final = 16
"""What every message begins with: enough to know how long it is."""

MAX_CALL_VALUES: Final = 16 * 1024
"""Values in the arguments of one call, containers counted too; 2,048 messages are 6,145."""

_ARRAY_OFFSET: Final = 12
_HEADER_FIELDS: Final = "a(yv)"


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


@dataclass(frozen=True, slots=True)
class Extent:
    """How long a message is. `header_bytes` includes the fixed part and the padding."""

    big_endian: bool
    header_bytes: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """A message but for its body. Fields a message does not have are empty or zero."""

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


# Numbers of the D-Bus specification; those missing here mean nothing to us and are passed over.
_FIELDS: Final = {
    1: ("path", str),
    2: ("interface", str),
    3: ("member", str),
    4: ("error_name", str),
    5: ("reply_serial", int),
    6: ("destination", str),
    7: ("sender", str),
    8: ("signature", str),
}


def parse_extent(fixed: bytes | bytearray) -> Extent:
    """The lengths in the first FIXED_BYTES. Raises BrokenFraming."""
    if fixed[0] not in (LITTLE_ENDIAN, BIG_ENDIAN) or fixed[3] != PROTOCOL_VERSION:
        raise BrokenFraming(f"no D-Bus message begins with {bytes(fixed[:4])!r}")
    big_endian = fixed[0] == BIG_ENDIAN
    order = ">" if big_endian else "<"
    body_bytes, _serial, array_bytes = struct.unpack_from(f"{order}III", fixed, 4)
    header_bytes = FIXED_BYTES + array_bytes + (-array_bytes & 7)
    return Extent(big_endian, header_bytes, body_bytes)


def parse_header(data: bytes | bytearray) -> Header:
    """The header in `data`, which holds it whole. Raises Malformed."""
    extent = parse_extent(data)
    order = ">" if extent.big_endian else "<"
    (serial,) = struct.unpack_from(f"{order}I", data, 8)
    try:
        kind = Kind(data[1])
        pairs = _decode(data, _HEADER_FIELDS, big_endian=extent.big_endian, start=_ARRAY_OFFSET)
    except (ValueError, TypeError) as exc:
        raise Malformed(str(exc)) from exc
    fields: dict[str, Any] = {}
    for code, variant in pairs[0]:
        name, kind_of_value = _FIELDS.get(code, (None, object))
        if name is None:
            continue
        if not isinstance(variant.value, kind_of_value):
            raise Malformed(f"header field {name} has signature {variant.signature!r}")
        fields[name] = variant.value
    return Header(kind, data[2], serial, extent.body_bytes, extent.big_endian, **fields)


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
    start: int = 0,
    most: int | None = None,
) -> list[Any]:
    decoder = _Decoder(data, big_endian=big_endian, most=most)
    decoder.offset = start
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
