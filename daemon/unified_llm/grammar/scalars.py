"""The schemas of values that hold no others: numbers, texts, and those that are listed."""

import json
from collections.abc import Mapping
from typing import Final

from unified_llm.grammar import fields
from unified_llm.grammar.bounds import parse_bounds
from unified_llm.grammar.gbnf import Grammar, literal
from unified_llm.grammar.keywords import OF_TYPE
from unified_llm.grammar.numbers import integer_body, number_body
from unified_llm.grammar.patterns import PatternRefused, pattern_body
from unified_llm.grammar.references import Schema
from unified_llm.grammar.refusal import Path, refused
from unified_llm.grammar.texts import FORMATS, format_body, text_body

MAX_VALUES: Final = 500

_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_NAMES: Final[Mapping[type, str]] = {
    dict: "object", list: "array", str: "string", bool: "boolean", int: "integer",
    float: "number", type(None): "null",
}  # fmt: skip


def types_of(flat: Schema, path: Path) -> list[str]:
    """The types there may be: those given, else those that the keywords speak of."""
    given = flat.get("type")
    if given is None:
        return [name for name, words in OF_TYPE.items() if words & flat.keys()]
    names = given if isinstance(given, list) else [given]
    for name in names:
        if name not in _TYPES:
            raise refused((*path, "type"), f"is none of {', '.join(_TYPES)}")
    # A whole number is a number too; two rules for it would double the work.
    return [n for n in dict.fromkeys(names) if n != "integer" or "number" not in names]


def listed_bodies(flat: Schema, path: Path) -> list[str]:
    """Those of `const` or `enum`, written as in the schema."""
    values = [flat["const"]] if "const" in flat else fields.items(flat, "enum", path)
    key = "const" if "const" in flat else "enum"
    if len(values) > MAX_VALUES:
        raise refused((*path, key), f"has {len(values)} values; the most is {MAX_VALUES}")
    beside = flat.keys() - {key, "type"}
    if beside:
        raise refused((*path, min(beside)), f"stands beside {key}, which cannot be combined")
    if "type" in flat:
        types = types_of(flat, path)
        values = [value for value in values if _has_type(value, types)]
    return [literal(json.dumps(value, ensure_ascii=False)) for value in values]


def number_of(flat: Schema, name: str, path: Path) -> str:
    """The body for an `integer` or `number`, as `name` says."""
    step = fields.bound(flat, "multipleOf", path)
    if step is not None and step != 1:
        raise refused((*path, "multipleOf"), "can only be 1")
    bounds = parse_bounds(flat, path)
    is_whole = name == "integer" or step == 1
    body = integer_body(bounds) if is_whole else number_body(bounds)
    if body is None:
        raise refused(path, "has bounds with no number between them")
    return body


def text_of(grammar: Grammar, flat: Schema, path: Path) -> str:
    """The body for a `string`."""
    least, most = fields.span(flat, "Length", path)
    kind, pattern = flat.get("format"), flat.get("pattern")
    has_length = least > 0 or most is not None
    if (kind is not None) + (pattern is not None) + has_length > 1:
        raise refused(path, "has more than one of format, pattern, and a length")
    if pattern is not None:
        return _matching(grammar, pattern, (*path, "pattern"))
    if kind is not None:
        if not isinstance(kind, str) or kind not in FORMATS:
            listed = ", ".join(sorted(FORMATS))
            raise refused((*path, "format"), f"can not be enforced; formats are {listed}")
        return format_body(grammar, kind)
    return text_body(grammar, least, most)


def _matching(grammar: Grammar, pattern: object, path: Path) -> str:
    if not isinstance(pattern, str):
        raise refused(path, "must be a text")
    try:
        return pattern_body(grammar, pattern)
    except PatternRefused as error:
        raise refused(path, str(error)) from error


def _has_type(value: object, types: list[str]) -> bool:
    name = _NAMES[type(value)]
    if name == "number" and isinstance(value, float) and value.is_integer():
        return bool({"integer", "number"} & set(types))
    return name in types or (name == "integer" and "number" in types)
