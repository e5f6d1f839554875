"""Whether two schemas can both hold for one value, as `oneOf` forbids."""

from unified_llm.grammar.merging import canonical
from unified_llm.grammar.references import Schema

_NUMBERS = frozenset({"integer", "number"})


def are_disjoint(one: Schema, other: Schema) -> bool:
    """Whether it is certain that no value matches both: by type, by value, or by a member.

    Both have no `$ref` of their own.
    """
    return (
        _have_no_shared_type(one, other)
        or _have_no_shared_value(one, other)
        or _are_told_apart_by_a_member(one, other)
    )


def _types(schema: Schema) -> set[str] | None:
    given = schema.get("type")
    if given is None:
        return None
    types = {str(name) for name in given} if isinstance(given, list) else {str(given)}
    if schema.get("nullable") is True:
        types.add("null")
    return types | _NUMBERS if types & _NUMBERS else types


def _have_no_shared_type(one: Schema, other: Schema) -> bool:
    ours, theirs = _types(one), _types(other)
    return ours is not None and theirs is not None and ours.isdisjoint(theirs)


def _values(schema: Schema) -> set[str] | None:
    if "const" in schema:
        return {canonical(schema["const"])}
    values = schema.get("enum")
    return {canonical(value) for value in values} if isinstance(values, list) else None


def _have_no_shared_value(one: Schema, other: Schema) -> bool:
    ours, theirs = _values(one), _values(other)
    return ours is not None and theirs is not None and ours.isdisjoint(theirs)


def _are_told_apart_by_a_member(one: Schema, other: Schema) -> bool:
    ours, theirs = _required_members(one), _required_members(other)
    return any(
        _have_no_shared_value(ours[name], theirs[name]) for name in ours.keys() & theirs.keys()
    )


def _required_members(schema: Schema) -> dict[str, Schema]:
    properties, required = schema.get("properties"), schema.get("required")
    if _types(schema) != {"object"} or not isinstance(properties, dict):
        return {}
    names = required if isinstance(required, list) else []
    return {
        name: properties[name]
        for name in names
        if isinstance(name, str) and isinstance(properties.get(name), dict)
    }
