"""Untrusted JSON in, declared shapes out; what is wrong is named by its path.

Bytes are judged before they are parsed: what would exhaust the parser (depth, number of values) or
what two parsers would read differently (duplicate keys, NaN, half characters) is refused.
"""

import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from unified_llm.domain.errors import InvalidRequest

MAX_DEPTH = 64
# Enough for 2,048 messages of many parts. Without it a body of nothing but `"",` holds up the event
# loop for the better part of a second per 8 MiB.
MAX_VALUES = 100_000
MAX_NUMBER_CHARACTERS = 64

_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))
_LONG_NUMBER = re.compile(rb"[0-9+.eE-]{%d}" % (MAX_NUMBER_CHARACTERS + 1))
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_DEPTH_OF = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(","): 0}


class Shape(BaseModel):
    """What a client may send: declared fields only, and no guessing between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


ShapeT = TypeVar("ShapeT", bound=BaseModel)


def decode_json(raw: bytes) -> object:
    """The JSON value (RFC 8259) in `raw`. Raises InvalidRequest."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"The body is not UTF-8: byte {error.start} can not be decoded.",
            hint="Send JSON in UTF-8.",
        ) from error
    _ensure_bounded(raw)
    try:
        value: object = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    if _SURROGATE_ESCAPE.search(raw):
        _ensure_whole_characters(value)
    return value


def parse_shape(shape: type[ShapeT], value: object) -> ShapeT:
    """`value` as a `shape`. Raises InvalidRequest naming the first field that is wrong."""
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _translated(shape, first) from error


def render_path(location: tuple[int | str, ...]) -> str:
    """`("messages", 2, "content")` as `messages[2].content`; tags of unions, `<so>`, left out."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("<"):
            path += f".{step}" if path else step
    return path


def _ensure_bounded(raw: bytes) -> None:
    bare = _outside_strings(raw)
    structure = bare.translate(None, _ALL_BUT_STRUCTURE)
    if len(structure) > MAX_VALUES:
        raise _too_many("brackets and commas")
    if _LONG_NUMBER.search(bare):
        raise InvalidRequest(f"A number has more than {MAX_NUMBER_CHARACTERS} characters.")
    depth = deepest = 0
    for character in structure:
        depth += _DEPTH_OF[character]
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise InvalidRequest(
            f"Objects and arrays are nested {deepest} deep; the most is {MAX_DEPTH}."
        )


def _outside_strings(raw: bytes) -> bytes:
    """What is left of `raw` without its texts, at the speed of memchr."""
    # With escaped backslashes gone first, a backslash before a quote does escape it.
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 2 * MAX_VALUES:
        raise _too_many("texts")
    return b"".join(plain.split(b'"')[::2])


def _too_many(things: str) -> InvalidRequest:
    return InvalidRequest(
        f"The body holds more than {MAX_VALUES} {things}.",
        hint="No request needs so many values.",
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
        raise InvalidRequest(
            f"The key {_shown(twice)} is there twice in one object.",
            hint="Readers of JSON differ on which one counts; send it once.",
        )
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a number in JSON.")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise InvalidRequest(f"The number {_shown(digits)} is too large.")
    return value


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
)


def _ensure_whole_characters(value: object) -> None:
    for path, text in _texts(value, ()):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            where = render_path(path)
            raise InvalidRequest(
                f"{where or 'The body'} holds half a character (a lone surrogate) at position "
                f"{error.start}.",
                hint="Send both halves of the pair, or the character itself.",
                parameter=where.encode(errors="replace").decode() or None,
            ) from error


def _texts(
    value: object, path: tuple[int | str, ...]
) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Every text and every key with its path. As deep as `_ensure_bounded` lets it be."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield path, key
            yield from _texts(item, (*path, key))


_SENTENCES = {
    "missing": "is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be an array",
    "tuple_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def _translated(shape: type[BaseModel], error: ErrorDetails) -> InvalidRequest:
    location = error["loc"]
    path = render_path(location)
    subject = path or "The body"
    if error["type"] == "extra_forbidden":
        return _unknown_field(shape, location)
    sentence = _SENTENCES.get(error["type"])
    if sentence is None:
        sentence = error["msg"].removeprefix("Input ").removesuffix(".")
    return InvalidRequest(f"{subject} {sentence}.", parameter=path or None)


def _unknown_field(shape: type[BaseModel], location: tuple[int | str, ...]) -> InvalidRequest:
    *outer, name = location
    parent, shown = render_path(tuple(outer)), str(name)[:64]
    known = shape.model_fields if not outer else ()
    near = difflib.get_close_matches(shown, known, n=1)
    return InvalidRequest(
        f"{_shown(str(name))} is not a field of {parent or 'this request'}.",
        hint=f"Did you mean {near[0]!r}?" if near else "The reference lists the fields there are.",
        parameter=f"{parent}.{shown}" if parent else shown,
    )


def _shown(text: str) -> str:
    return repr(text[:64]) + ("…" if len(text) > 64 else "")
