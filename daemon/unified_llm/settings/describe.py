"""What the schema says about a key, in words: for messages and for the reference page."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from unified_llm.settings.schema import Settings

JsonSchema = Mapping[str, Any]

ANY_MODEL = "<id>"
"""Stands for a model id in the path of a setting."""

ANY_PLACE = "<n>"
"""Stands for a place in a list of sections, from 0."""


@cache
def _root() -> JsonSchema:
    return Settings.model_json_schema()


def _followed(schema: JsonSchema) -> JsonSchema:
    """`schema` with its reference replaced by what it refers to."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: JsonSchema = _root()["$defs"][reference.rpartition("/")[2]]
    return found


def _section_in(schema: JsonSchema) -> JsonSchema | None:
    """What each place of a list holds, if that is a section."""
    items = _followed(schema.get("items", {}))
    return items if items.get("type") == "object" else None


def schema_at(path: Sequence[str]) -> JsonSchema | None:
    """The JSON schema of the setting at `path`; None if there is no such setting."""
    schema = _root()
    for name in path:
        following = (
            schema.get("properties", {}).get(name)
            or schema.get("additionalProperties")
            or _section_in(schema)
        )
        if not isinstance(following, Mapping):
            return None
        schema = _followed(following)
    return schema


def names_at(path: Sequence[str]) -> tuple[str, ...]:
    """The settings that may stand directly under `path`."""
    schema = schema_at(path)
    return tuple(schema.get("properties", ())) if schema else ()


def all_settings() -> Iterator[tuple[tuple[str, ...], JsonSchema]]:
    """Every setting with its path, in the order of the schema, but a section's own before those of
    the sections in it; sections are left out."""
    yield from _settings_under((), _root())


def _settings_under(
    path: tuple[str, ...], schema: JsonSchema
) -> Iterator[tuple[tuple[str, ...], JsonSchema]]:
    if schema.get("type") != "object":
        yield path, schema
        if (section := _section_in(schema)) is not None:
            yield from _settings_under((*path, ANY_PLACE), section)
        return
    inner = {name: _followed(found) for name, found in schema.get("properties", {}).items()}
    for name in sorted(inner, key=lambda name: _depth(inner[name])):
        yield from _settings_under((*path, name), inner[name])
    if isinstance(more := schema.get("additionalProperties"), Mapping):
        yield from _settings_under((*path, ANY_MODEL), _followed(more))


def _depth(schema: JsonSchema) -> int:
    """How much of a section there is in it: nothing, some in a list, or all."""
    if schema.get("type") == "object":
        return 2
    return 0 if _section_in(schema) is None else 1


def render_expected(schema: JsonSchema) -> str:
    """What a value must be, as half a sentence: `whole number of tokens from 256 to 4096`."""
    choices = schema.get("anyOf")
    if choices is None:
        return _render_one(schema, schema.get("unit", ""), schema.get("form", ""))
    return " or ".join(
        _render_one(choice, schema.get("unit", ""), schema.get("form", "")) for choice in choices
    )


def _render_one(schema: JsonSchema, unit: str, form: str) -> str:
    kind = schema.get("type", "")
    if kind == "null":
        return "null"
    if form:
        return form
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if kind in {"integer", "number"}:
        noun = "whole number" if kind == "integer" else "number"
        return " ".join(
            part for part in (noun, unit and f"of {unit}", _render_range(schema)) if part
        )
    if kind == "string":
        return _render_text(schema)
    return {"boolean": "true or false", "object": "settings, as `name: value` lines"}[kind]


def _render_range(schema: JsonSchema) -> str:
    if "exclusiveMinimum" in schema:
        return f"above {schema['exclusiveMinimum']}, at most {schema['maximum']}"
    return f"from {schema['minimum']} to {schema['maximum']}"


def _render_text(schema: JsonSchema) -> str:
    if schema.get("format") == "path":
        return "absolute path"
    return f"text of {schema['minLength']} to {schema['maxLength']} characters"
