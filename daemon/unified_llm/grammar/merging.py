"""Schemas that must all hold, as one: for `allOf`, and for what stands beside alternatives."""

import json
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Final

from unified_llm.grammar.references import Schema
from unified_llm.grammar.refusal import Path, refused


def canonical(value: object) -> str:
    """The same text for the same JSON value; the order of members counts, as it does in answers."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def merge(schemas: Iterable[Schema], path: Path) -> Schema:
    """One schema that holds where all of `schemas` do; they have no `$ref` and no `allOf`.

    Raises InvalidRequest if there is none that we can write.
    """
    return reduce(lambda one, other: _merge_two(one, other, path), schemas)


def _merge_two(one: Schema, other: Schema, path: Path) -> Schema:
    if not one or not other:
        return other or one
    result: dict[str, object] = {}
    for key in dict.fromkeys((*one, *other)):
        if key not in one or key not in other:
            result[key] = one.get(key, other.get(key))
        elif canonical(one[key]) == canonical(other[key]):
            result[key] = one[key]
        else:
            result[key] = _merge_values(key, one[key], other[key], path)
    if "properties" in result or "additionalProperties" in result:
        result["properties"] = _merge_properties(one, other)
    return result


def _merge_values(key: str, one: object, other: object, path: Path) -> object:
    rule = _RULES.get(key)
    if rule is None:
        raise refused((*path, key), "is given twice and differs, which cannot be combined")
    try:
        return rule(one, other)
    except (TypeError, ValueError) as error:
        raise refused((*path, key), "is given twice, and nothing satisfies both") from error


def _highest(one: object, other: object) -> object:
    return max(_number(one), _number(other))


def _lowest(one: object, other: object) -> object:
    return min(_number(one), _number(other))


def _number(value: object) -> int | float:
    if not isinstance(value, int | float):
        raise TypeError
    return value


def _types(value: object) -> list[str]:
    names = value if isinstance(value, list) else [value]
    return [str(name) for name in names]


def _merge_types(one: object, other: object) -> object:
    ours, theirs = _types(one), _types(other)
    shared = [name for name in ours if name in theirs]
    if "integer" not in shared and "integer" in ours + theirs and "number" in ours + theirs:
        shared.append("integer")
    if not shared:
        raise ValueError
    return shared


def _merge_lists(one: object, other: object) -> object:
    return list(dict.fromkeys((*_listed(one), *_listed(other))))


def _merge_enums(one: object, other: object) -> object:
    wanted = {canonical(value) for value in _listed(other)}
    shared = [value for value in _listed(one) if canonical(value) in wanted]
    if not shared:
        raise ValueError
    return shared


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _both(one: object, other: object) -> object:
    return {"allOf": [one, other]}


def _merge_properties(one: Schema, other: Schema) -> Schema:
    """A name that only one of them declares is one of the other's additional properties."""
    ours, theirs = _declared(one), _declared(other)
    merged: dict[str, object] = {}
    for name in dict.fromkeys((*ours, *theirs)):
        parts = [
            part
            for part in (_schema_of(name, one, ours), _schema_of(name, other, theirs))
            if part is not None
        ]
        merged[name] = parts[0] if len(parts) == 1 else _both(*parts)
    return merged


def _declared(schema: Schema) -> Schema:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _schema_of(name: str, schema: Schema, declared: Schema) -> object | None:
    return declared[name] if name in declared else schema.get("additionalProperties")


_RULES: Final[dict[str, Callable[[object, object], object]]] = {
    "type": _merge_types,
    "required": _merge_lists,
    "enum": _merge_enums,
    "properties": lambda one, other: {},
    "additionalProperties": _both,
    "items": _both,
    **dict.fromkeys(
        ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), _highest
    ),
    **dict.fromkeys(
        ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), _lowest
    ),
    "nullable": lambda one, other: bool(one) and bool(other),
}
