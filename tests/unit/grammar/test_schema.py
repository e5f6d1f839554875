"""What of a schema cannot be enforced is refused by its path, within bounded work."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.generated_schemas import values
from unified_llm.domain.errors import InvalidRequest
from unified_llm.grammar.gbnf import MAX_COUNT, MAX_GRAMMAR_BYTES
from unified_llm.grammar.schema import (
    MAX_DEPTH,
    MAX_PROPERTIES,
    MAX_SCHEMA_BYTES,
    MAX_SCHEMAS,
    schema_grammar,
)


def compiled(schema: object) -> str:
    return schema_grammar(json.dumps(schema))


def refusal(schema: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        compiled(schema)
    return caught.value


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def test_the_same_schema_is_one_rule_wherever_it_stands() -> None:
    one = {"type": "object", "properties": {"a": {"type": "integer"}}}
    two = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    assert compiled(one).count('("0" | [1-9]') == compiled(two).count('("0" | [1-9]') == 1


def test_annotations_ask_for_nothing() -> None:
    noted = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "x",
        "title": "T",
        "description": "d",
        "default": 1,
        "examples": [1],
        "x-order": 3,
        "type": "integer",
    }
    assert compiled(noted) == compiled({"type": "integer"})


@pytest.mark.parametrize(
    ("schema", "place", "reason"),
    [
        ({"not": {}}, "schema.not", "not a keyword"),
        ({"properties": {"a": {"minlength": 1}}}, "schema.properties.a.minlength", "not a keyword"),
        ({"if": {}, "then": {}}, "schema.if", "not a keyword"),
        ({"patternProperties": {}}, "schema.patternProperties", "not a keyword"),
        ({"properties": {"a": {"$id": "b"}}}, "schema.properties.a.$id", "not a keyword"),
        ({"type": "array", "uniqueItems": True}, "schema.uniqueItems", "can not be enforced"),
        ({"type": "number", "multipleOf": 0.01}, "schema.multipleOf", "only be 1"),
        ({"type": "string", "format": "duration"}, "schema.format", "formats are date,"),
        ({"type": "integer", "format": "byte"}, "schema.format", "not a format of numbers"),
        ({"type": "string", "minLength": 1, "pattern": "a"}, "schema", "more than one of"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "schema.minLength", "is 3"),
        ({"type": "string", "minLength": -1}, "schema.minLength", "whole number"),
        ({"type": "string", "pattern": 3}, "schema.pattern", "must be a text"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "schema", "no number between"),
        ({"type": "integer", "minimum": "3"}, "schema.minimum", "must be a number"),
        ({"type": "number", "minimum": 1e300}, "schema.minimum", "more than 20 digits"),
        ({"type": "text"}, "schema.type", "is none of"),
        ({"type": [{}]}, "schema.type", "is none of"),
        ({"type": "string", "format": {}}, "schema.format", "formats are date,"),
        ({"type": "integer", "format": []}, "schema.format", "not a format of numbers"),
        ({"type": "object", "required": ["a"]}, "schema.required[0]", "names 'a'"),
        ({"type": "object", "required": "a"}, "schema.required", "must be an array"),
        ({"type": "object", "required": [1]}, "schema.required[0]", "must be a text"),
        ({"type": "object", "properties": []}, "schema.properties", "must be an object"),
        ({"type": "object", "properties": {"a": 3}}, "schema.properties.a", "must be a schema"),
        (
            {"type": "object", "properties": {"a": True}, "minProperties": 1},
            "schema.minProperties",
            "can not be enforced here",
        ),
        (
            {"type": "object", "properties": {"a": True, "b": True}, "maxProperties": 1},
            "schema.maxProperties",
            "can not be enforced here",
        ),
        ({"type": "array", "items": False, "minItems": 1}, "schema.minItems", "no items"),
        ({"prefixItems": [True]}, "schema.prefixItems", "the same number"),
        ({"anyOf": []}, "schema", "matches nothing"),
        ({"enum": []}, "schema", "matches nothing"),
        ({"enum": [1], "type": "string"}, "schema", "matches nothing"),
        ({"enum": [1], "minimum": 0}, "schema.minimum", "beside enum"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "schema.oneOf[1]", "use anyOf"),
        ({"oneOf": [{}, {}]}, "schema.oneOf[1]", "use anyOf"),
        (
            {"allOf": [{"type": "integer"}, {"type": "string"}]},
            "schema.type",
            "nothing satisfies both",
        ),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "schema.pattern", "cannot be combined"),
        ({"$ref": "https://example.org/x"}, "schema.$ref", "only references inside"),
        ({"$ref": "#/$defs/none"}, "schema.$ref", "is not there"),
        ({"$ref": "#"}, "schema.$ref", "nothing in between"),
        ({"$ref": "#/allOf/0", "allOf": [{"$ref": "#"}]}, "schema.$ref.$ref", "nothing in between"),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "schema.anyOf[0]", "nothing in between"),
        (False, "schema", "matches nothing"),
        (3, "schema", "must be a schema"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_its_path(
    schema: object, place: str, reason: str
) -> None:
    error = refusal(schema)
    assert reason in error.message
    assert error.parameter is not None
    assert error.parameter.startswith(place.split(".$ref.$ref")[0])


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (nested(MAX_DEPTH), f"deeper than {MAX_DEPTH}"),
        ({"type": "string", "maxLength": MAX_COUNT + 1}, f"the most is {MAX_COUNT}"),
        ({"type": "array", "minItems": 2**31}, f"the most is {MAX_COUNT}"),
        (
            {
                "anyOf": [
                    {"type": "string", "minLength": n, "maxLength": MAX_COUNT} for n in range(99)
                ]
            },
            "repetitions in all",
        ),
        ({"description": "x" * MAX_SCHEMA_BYTES}, f"the most is {MAX_SCHEMA_BYTES}"),
        (
            {"type": "object", "properties": {f"p{n}": {} for n in range(MAX_PROPERTIES + 1)}},
            f"the most is {MAX_PROPERTIES}",
        ),
        ({"enum": list(range(501))}, "the most is 500"),
        (
            {"properties": {"n" * 9000: True}, "additionalProperties": True},
            "a name of 9000 characters",
        ),
        (
            {"anyOf": [{"const": n} for n in range(MAX_SCHEMAS)]},
            f"more than {MAX_SCHEMAS} schemas",
        ),
    ],
)
def test_each_limit_is_said_with_its_number(schema: object, reason: str) -> None:
    assert reason in refusal(schema).message


def test_references_that_multiply_are_stopped() -> None:
    """Each level refers twice to the next: 16,384 schemas, if all were followed."""
    levels = {
        f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}, {"$ref": f"#/$defs/l{n + 1}"}]}
        for n in range(14)
    }
    schema = {"$ref": "#/$defs/l0", "$defs": {**levels, "l14": {"type": "integer"}}}
    assert f"more than {MAX_SCHEMAS} schemas" in refusal(schema).message


def test_a_large_schema_referred_to_often_is_looked_at_once() -> None:
    big = {"type": "object", "properties": {f"p{n}": {"const": "x" * 200} for n in range(99)}}
    uses = {f"u{n}": {"$ref": "#/$defs/big"} for n in range(99)}
    grammar = compiled({"type": "object", "properties": uses, "$defs": {"big": big}})
    assert len(grammar) < MAX_GRAMMAR_BYTES / 4


@pytest.mark.parametrize("text", ["", "{", "nul", '{"type": NaN}', "[" * 10_000, "1" * 5000])
def test_text_that_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        schema_grammar(text)


@pytest.mark.parametrize("depth", [100, 900, 960, 980, 990, 3000])
def test_a_value_is_as_deep_as_it_can_be_or_refused(depth: int) -> None:
    with suppress(InvalidRequest):
        assert schema_grammar('{"const": ' + "[" * depth + "]" * depth + "}")


_WORDS = st.sampled_from(
    ["type", "properties", "items", "enum", "anyOf", "oneOf", "allOf", "$ref", "minimum", "pattern",
     "maxLength", "required", "additionalProperties", "format", "const", "prefixItems", "nullable"]
)  # fmt: skip
_TRASH = st.recursive(
    values() | st.sampled_from(["#", "#/a", "object", "string", "^(a|b)*$", "^(a*)*$", "date"]),
    lambda inner: st.dictionaries(_WORDS, inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(_TRASH)
def test_anything_at_all_is_compiled_or_refused(schema: object) -> None:
    with suppress(InvalidRequest):
        assert compiled(schema).startswith("root ::= ")
