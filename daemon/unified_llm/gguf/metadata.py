"""The key-value part of a GGUF header: walked once, values read when they are asked for.

Source: the GGUF specification (ggml, docs/gguf.md). Limits: Ollama's for strings and arrays, which
real models stay far below; llama.cpp compares every key with all earlier ones, hence few keys.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from unified_llm.gguf.reader import U32, U64, Cursor, NotAModel

MAX_KEYS: Final = 65_536
MAX_KEY_BYTES: Final = 65_535
MAX_STRING_BYTES: Final = 16 * 1024 * 1024
MAX_ARRAY_ITEMS: Final = 64 * 1024 * 1024
# Strings in arrays are walked one by one; the largest vocabularies have 0.8 million with merges.
MAX_ARRAY_STRINGS: Final = 4 * 1024 * 1024

_BOOL, _STRING, _ARRAY = 7, 8, 9
_U32_TYPE, _I32_TYPE, _F32_TYPE = 4, 5, 6

SCALARS: Final = {
    code: Struct(f"<{letter}")
    for code, letter in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
TYPE_NAMES: Final = {
    0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool",
    8: "string", 9: "array", 10: "u64", 11: "i64", 12: "f64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number or bool, as it was read."""

    type: int
    value: int | float


@dataclass(frozen=True, slots=True)
class Text:
    """A string: where its length prefix stands, and its size in bytes."""

    position: int
    size: int


@dataclass(frozen=True, slots=True)
class Array:
    """An array: the type of its items, how many there are, and where the first one stands."""

    type: int
    count: int
    position: int


Entry = Scalar | Text | Array


@dataclass(frozen=True, slots=True)
class Metadata:
    """All entries by key, and typed access that says which key is wrong and how."""

    entries: dict[str, Entry]
    cursor: Cursor

    def unsigned(self, key: str, low: int, high: int) -> int | None:
        """The u32 at `key`, within `low` and `high`; None if there is no such key."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if not isinstance(entry, Scalar) or entry.type != _U32_TYPE:
            raise NotAModel(f"{key[:80]} is not a u32.")
        return _within(key, int(entry.value), low, high)

    def required(self, key: str, low: int, high: int) -> int:
        """As `unsigned`, but the key must be there."""
        value = self.unsigned(key, low, high)
        if value is None:
            raise NotAModel(f"{key} is missing.")
        return value

    def fraction(self, key: str) -> float | None:
        """The f32 at `key`, above 0 and below 1; None if there is no such key."""
        value = self._f32(key)
        if value is not None and not 0 < value < 1:  # NaN too
            raise NotAModel(f"{key} is {value}; it must be above 0 and below 1.")
        return value

    def real(self, key: str, low: float, high: float) -> float | None:
        """The f32 at `key`, within `low` and `high`; None if there is no such key."""
        value = self._f32(key)
        if value is not None and not low <= value <= high:  # NaN too
            raise NotAModel(f"{key} is {value}; it must be from {low:g} to {high:g}.")
        return value

    def _f32(self, key: str) -> float | None:
        entry = self.entries.get(key)
        if entry is None:
            return None
        if not isinstance(entry, Scalar) or entry.type != _F32_TYPE:
            raise NotAModel(f"{key} is not an f32.")
        return entry.value

    def per_layer(self, key: str, layers: int, low: int, high: int) -> tuple[int, ...] | None:
        """One number per layer, from one u32 or an array; None if there is no such key.

        Bools count as 0 and 1: llama.cpp's own writer stores patterns of layers as such.
        """
        entry = self.entries.get(key)
        if not isinstance(entry, Array):
            value = self.unsigned(key, low, high)
            return None if value is None else (value,) * layers
        if entry.type not in (_U32_TYPE, _I32_TYPE, _BOOL) or entry.count != layers:
            raise NotAModel(
                f"{key} has {entry.count} items of type {TYPE_NAMES[entry.type]}; "
                f"it must have one u32, i32 or bool for each of {layers} layers."
            )
        return tuple(_within(key, value, low, high) for value in self.integers(entry, key))

    def text(self, key: str, longest: int) -> str | None:
        """The string at `key`, at most `longest` bytes of UTF-8; None if there is no such key."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if not isinstance(entry, Text):
            raise NotAModel(f"{key} is not a string.")
        try:
            return self.cursor.at(entry.position).string(longest, key).decode()
        except UnicodeDecodeError as error:
            raise NotAModel(f"{key} is not UTF-8 at its byte {error.start}.") from error

    def label(self, key: str) -> str | None:
        """A short printable string that nothing depends on; None if it is anything else."""
        entry = self.entries.get(key)
        if not isinstance(entry, Text) or entry.size > 256:
            return None
        label = self.cursor.at(entry.position).string(256, key).decode(errors="replace").strip()
        return label if label and label.isprintable() else None

    def array(self, key: str, item_type: str) -> Array | None:
        """The array at `key`, whose items have this type; None if there is no such key."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if not isinstance(entry, Array) or TYPE_NAMES[entry.type] != item_type:
            raise NotAModel(f"{key} is not an array of {item_type}.")
        return entry

    def integers(self, array: Array, key: str) -> tuple[int, ...]:
        """The items of an array of integers; the caller bounds their count."""
        shape = Struct(f"<{array.count}{SCALARS[array.type].format[1:]}")
        return shape.unpack(self.cursor.at(array.position).take(shape.size, key))


def parse_metadata(cursor: Cursor, count: int) -> Metadata:
    """Walk `count` entries, leaving `cursor` behind them. Raises NotAModel."""
    entries: dict[str, Entry] = {}
    strings_left = MAX_ARRAY_STRINGS
    for index in range(count):
        key = _key(cursor, f"key {index + 1} of {count}")
        if key in entries:
            raise NotAModel(f"The key {key[:80]!r} is there twice.")
        entry = _entry(cursor, key[:80], strings_left)
        if isinstance(entry, Array) and entry.type == _STRING:
            strings_left -= entry.count
        entries[key] = entry
    return Metadata(entries, cursor)


def _key(cursor: Cursor, what: str) -> str:
    raw = cursor.string(MAX_KEY_BYTES, what)
    key = raw.decode("latin-1")
    if not raw.isascii() or not key or not key.isprintable():
        raise NotAModel(f"The name of {what} is empty or not printable ASCII.")
    return key


def _entry(cursor: Cursor, key: str, strings_left: int) -> Entry:
    what = repr(key)
    type_ = cursor.number(U32, what)
    if type_ == _STRING:
        position = cursor.position
        return Text(position, cursor.skip_string(MAX_STRING_BYTES, what))
    if type_ == _ARRAY:
        return _walked_array(cursor, what, strings_left)
    if (shape := SCALARS.get(type_)) is None:
        raise NotAModel(f"{what} has the value type {type_}; types are 0 to 12.")
    value = shape.unpack(cursor.take(shape.size, what))[0]
    if type_ == _BOOL and value > 1:
        raise NotAModel(f"{what} is a bool of {value}; it must be 0 or 1.")
    return Scalar(type_, value)


def _walked_array(cursor: Cursor, what: str, strings_left: int) -> Array:
    type_ = cursor.number(U32, what)
    count = cursor.number(U64, what)
    array = Array(type_, count, cursor.position)
    if count > MAX_ARRAY_ITEMS:
        raise NotAModel(f"{what} has {count} items; at most {MAX_ARRAY_ITEMS} are accepted.")
    if type_ == _STRING:
        if count > strings_left:
            raise NotAModel(f"The arrays hold more than {MAX_ARRAY_STRINGS} strings.")
        cursor.skip_strings(count, MAX_STRING_BYTES, what)
    elif (shape := SCALARS.get(type_)) is not None:
        if type_ == _BOOL:
            _require_bools(cursor.at(cursor.position), count, what)
        cursor.skip(count * shape.size, what)
    else:
        raise NotAModel(f"{what} is an array of type {type_}; arrays hold numbers or strings.")
    return array


def _require_bools(cursor: Cursor, count: int, what: str) -> None:
    cursor.require(count, what)
    while count:
        some = cursor.take(min(count, 65_536), what)
        if some.translate(None, b"\0\1"):
            raise NotAModel(f"{what} is an array of bools that are not all 0 or 1.")
        count -= len(some)


def _within(key: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise NotAModel(f"{key[:80]} is {value}; it must be from {low} to {high}.")
    return value
