"""Parsing what a peer has sent."""

import struct

import pytest
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.signature import SignatureTree
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.bus.decoding import (
    FIXED_BYTES,
    MAX_CALL_VALUES,
    BrokenFraming,
    Kind,
    Malformed,
    parse_body,
    parse_extent,
    parse_header,
)
from unified_llm.bus.encoding import encode_call, encode_error
from unified_llm.bus.values import Variant
from unified_llm.guard.sanitize import MAX_MESSAGES, MAX_STOPS


def _call(signature: str = "sv", *values: object) -> bytes:
    return encode_call(
        7,
        destination="org.x",
        path="/org/x",
        interface="org.x.I",
        member="M",
        signature=signature,
        values=values or ("a", Variant("u", 1)),
        flags=4,
    ).data


def test_a_header_is_read_as_written() -> None:
    header = parse_header(_call())
    assert (header.kind, header.flags, header.serial) == (Kind.CALL, 4, 7)
    assert (header.destination, header.path) == ("org.x", "/org/x")
    assert (header.interface, header.member, header.signature) == ("org.x.I", "M", "sv")
    assert (header.sender, header.error_name, header.reply_serial) == ("", "", 0)
    refusal = parse_header(encode_error(8, header, "a.B", "no").data)
    assert (refusal.kind, refusal.reply_serial, refusal.error_name) == (Kind.ERROR, 7, "a.B")


def test_the_extent_is_where_the_body_begins_and_ends() -> None:
    data = _call()
    extent = parse_extent(data[:FIXED_BYTES])
    assert extent.header_bytes + extent.body_bytes == len(data)
    header = parse_header(data[: extent.header_bytes])
    assert parse_body(header, data[extent.header_bytes :]) == ["a", Variant("u", 1)]


def test_the_other_byte_order_is_read_too() -> None:
    fields = b"\x05\x01u\0" + struct.pack(">I", 3) + b"\x08\x01g\0\x01u\0"
    data = b"B" + bytes([2, 0, 1]) + struct.pack(">III", 4, 9, len(fields)) + fields
    data += bytes(-len(data) % 8)
    header = parse_header(data)
    assert (header.kind, header.serial, header.reply_serial) == (Kind.RETURN, 9, 3)
    assert parse_body(header, struct.pack(">I", 5)) == [5]


def test_header_fields_of_a_later_specification_are_passed_over() -> None:
    field = b"\x37\x01s\0" + struct.pack("<I", 2) + b"hi\0"
    data = b"l" + bytes([1, 0, 1]) + struct.pack("<III", 0, 9, len(field)) + field
    data += bytes(-len(data) % 8)
    header = parse_header(data)
    assert (header.serial, header.member) == (9, "")


@pytest.mark.parametrize("start", [b"x\x01\0\x01", b"l\x01\0\x02", b"GET "])
def test_what_is_no_message_breaks_the_framing(start: bytes) -> None:
    with pytest.raises(BrokenFraming):
        parse_extent(start + bytes(12))


def test_an_unknown_kind_of_message_is_malformed() -> None:
    data = bytearray(_call())
    data[1] = 9
    with pytest.raises(Malformed):
        parse_header(data)


def test_a_call_of_more_values_than_any_needs_is_not_parsed_to_its_end() -> None:
    """A MiB of variants takes the parser a second, and any user may send one after the other."""
    count = MAX_CALL_VALUES
    body = struct.pack("<I", 4 * count) + b"\x01y\0\7" * count
    header = parse_header(_call("av", []))
    with pytest.raises(Malformed, match=str(MAX_CALL_VALUES)):
        parse_body(header, body)
    (values,) = parse_body(header._replace(kind=Kind.RETURN), body)
    assert values == [Variant("y", 7)] * count


def test_the_longest_conversation_is_not_too_many_values() -> None:
    messages = [("user", "x")] * MAX_MESSAGES
    data = _call("sa(ss)a{sv}", "tiny", messages, {"stop": Variant("as", ["a"] * MAX_STOPS)})
    extent = parse_extent(data[:FIXED_BYTES])
    header = parse_header(data[: extent.header_bytes])
    assert len(parse_body(header, data[extent.header_bytes :])) == 3


def _with_fields(fields: bytes, order: str = "<") -> bytes:
    start = b"l" if order == "<" else b"B"
    data = start + bytes([1, 0, 1]) + struct.pack(f"{order}III", 0, 9, len(fields)) + fields
    return data + bytes(-len(data) % 8)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(b"\x03\x01u\0" + struct.pack("<I", 2), id="a member that is a number"),
        pytest.param(b"\x05\x01s\0" + struct.pack("<I", 1) + b"x\0", id="a serial that is a text"),
        pytest.param(b"\x03\x01s\0" + struct.pack("<I", 99) + b"x\0", id="longer than the header"),
        pytest.param(b"\x03\x01s\0" + struct.pack("<I", 1) + b"\xff\0", id="no UTF-8"),
        pytest.param(b"\x37\x02as\0" + bytes(8), id="a list"),
        pytest.param((b"\x37\x01u\0" + bytes(4)) * 40, id="too many"),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_malformed(fields: bytes) -> None:
    with pytest.raises(Malformed):
        parse_header(_with_fields(fields))


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


@given(
    fields=st.permutations(range(1, 10)),
    texts=st.lists(_NAMES, min_size=9, max_size=9),
    number=st.integers(0, 2**32 - 1),
    order=st.sampled_from("<>"),
)
def test_fields_are_read_as_the_library_reads_them(
    fields: list[int], texts: list[str], number: int, order: str
) -> None:
    written, data = {}, b""
    for field, text in zip(fields, texts, strict=True):
        kind = "osssussgu"[field - 1]
        value = {"u": number, "g": "s" * len(text), "o": "/" + "a" * len(text)}.get(kind, text)
        encoded = str(value).encode()
        data += bytes(-len(data) % 8) + bytes([field]) + b"\1" + kind.encode() + b"\0"
        if kind == "u":
            data += struct.pack(f"{order}I", number)
        elif kind == "g":
            data += bytes([len(encoded)]) + encoded + b"\0"
        else:
            data += struct.pack(f"{order}I", len(encoded)) + encoded + b"\0"
        written[field] = value
    message = _with_fields(data, order)
    library = Unmarshaller(None)  # type: ignore[no-untyped-call]
    library.buf, library.endian, library.offset = bytearray(message), message[0], 12
    kinds = SignatureTree("a(yv)").types
    told = {code: variant.value for code, variant in library.read_argument(kinds[0])}  # type: ignore[no-untyped-call]
    assert told == written
    header = parse_header(message)
    assert {field: header[field + 4] for field in written} == told


@given(st.binary(max_size=200))
def test_no_header_bytes_surprise(noise: bytes) -> None:
    fixed = b"l\x01\0\x01" + struct.pack("<III", 0, 1, len(noise))
    try:
        parse_header(fixed + noise + bytes(-len(noise) % 8))
    except Malformed:
        return


@given(
    st.sampled_from(["v", "as", "a{sv}", "(sv)", "a(ss)a{sv}", "ay", "g", "o", "av", "h", "d"]),
    st.binary(max_size=200),
)
def test_no_body_bytes_surprise(signature: str, noise: bytes) -> None:
    header = parse_header(_call(signature, *_placeholders(signature)))
    try:
        parse_body(header, noise)
    except Malformed:
        return


@given(st.integers(0, 400), st.integers(0, 255))
def test_no_changed_byte_surprises(at: int, value: int) -> None:
    data = bytearray(_call())
    data[at % len(data)] = value
    try:
        extent = parse_extent(data)
        header = parse_header(data)
        parse_body(header, data[extent.header_bytes :])
    except (Malformed, BrokenFraming):
        return


def _placeholders(signature: str) -> tuple[object, ...]:
    return {
        "v": (Variant("s", ""),),
        "as": ([],),
        "a{sv}": ({},),
        "(sv)": (("", Variant("s", "")),),
        "a(ss)a{sv}": ([], {}),
        "ay": (b"",),
        "g": ("",),
        "o": ("/",),
        "av": ([],),
        "h": (0,),
        "d": (0.0,),
    }[signature]
