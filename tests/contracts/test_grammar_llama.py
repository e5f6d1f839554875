"""What our grammars let pass, judged by llama.cpp, beside what the schemas say."""

import json
import random
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.generated_schemas import PATTERNS, SchemaDraw, schemas, values, written
from tests.grammar_judge import Judge, open_judge
from unified_llm.domain.chat import JsonAnswer
from unified_llm.grammar.answers import answer_grammar
from unified_llm.grammar.gbnf import Grammar
from unified_llm.grammar.numbers import Bounds, integer_body, number_body
from unified_llm.grammar.patterns import pattern_body
from unified_llm.grammar.schema import object_grammar, schema_grammar
from unified_llm.grammar.until import until_rule

_RELAXED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with open_judge(tmp_path_factory.mktemp("judge")) as judge:
        yield judge


pytestmark = pytest.mark.keeps_descriptors


def compiled(schema: object) -> str:
    return schema_grammar(json.dumps(schema))


def accepts(judge: Judge, schema: object, *texts: str) -> list[bool]:
    return [judge.accepts(compiled(schema), text) for text in texts]


_CHECKER = jsonschema.FormatChecker(formats=())
_CHECKER.checks("date", ValueError)(lambda text: not isinstance(text, str) or _is_date(text))
_CHECKER.checks("uuid", ValueError)(lambda text: not isinstance(text, str) or bool(UUID(text)))
_CHECKER.checks("ipv4", ValueError)(
    lambda text: not isinstance(text, str) or ip_address(text).version == 4
)


def _is_date(text: str) -> bool:
    return len(text) == 10 and date.fromisoformat(text) is not None


def matches(schema: object, value: object) -> bool:
    validator = jsonschema.Draft202012Validator(schema, format_checker=_CHECKER)
    return bool(validator.is_valid(value))


@_RELAXED
@given(schema=schemas(), value=values())
def test_whatever_passes_the_grammar_matches_the_schema(
    judge: Judge, schema: Any, value: Any
) -> None:
    if judge.accepts(compiled(schema), written(value)):
        assert matches(schema, value)


class Writer:
    """Values that match a schema of SchemaDraw, as our grammar has them written."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def value(self, schema: Any) -> Any:
        if schema is True or schema == {}:
            return self._draw(values())
        if "enum" in schema:
            return self._draw(st.sampled_from(schema["enum"]))
        if "anyOf" in schema:
            return self.value(self._draw(st.sampled_from(schema["anyOf"])))
        if "allOf" in schema:
            return {
                name: item for part in schema["allOf"] for name, item in self.value(part).items()
            }
        kind = schema["type"]
        kind = self._draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
        return getattr(self, f"_{kind}")(schema)

    def _null(self, _: Any) -> None:
        return None

    def _boolean(self, _: Any) -> bool:
        return bool(self._draw(st.booleans()))

    def _integer(self, schema: Any) -> Any:
        return self._draw(st.integers(-250, 250).filter(lambda value: matches(schema, value)))

    def _number(self, schema: Any) -> Any:
        drawn = st.integers(-2000, 2000).map(lambda value: value / 8)
        return self._draw(drawn.filter(lambda value: matches(schema, value)))

    def _string(self, schema: Any) -> Any:
        if "format" in schema:
            made: Any = {"date": st.dates(date(1000, 1, 1), date(2999, 12, 31)), "uuid": st.uuids(),
                    "ipv4": st.ip_addresses(v=4)}[schema["format"]]  # fmt: skip
            return str(self._draw(made))
        if "pattern" in schema:
            return self._draw(_matching(schema["pattern"]))
        least, most = schema.get("minLength", 0), schema.get("maxLength", 8)
        plain = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
        return self._draw(st.text(plain, min_size=least, max_size=most))

    def _object(self, schema: Any) -> Any:
        required = schema["required"]
        return {
            name: self.value(part)
            for name, part in schema["properties"].items()
            if name in required or self._draw(st.booleans())
        }

    def _array(self, schema: Any) -> Any:
        least = schema["minItems"]
        count = self._draw(st.integers(least, schema.get("maxItems", least + 2)))
        return [self.value(schema["items"]) for _ in range(count)]


def _matching(pattern: str) -> st.SearchStrategy[str]:
    plain = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
    return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=False, alphabet=plain).filter(
        lambda text: not text.endswith("\n")
    )


@_RELAXED
@given(draw=st.data(), schema=schemas())
def test_what_matches_the_schema_passes_in_the_order_of_its_members(
    judge: Judge, draw: st.DataObject, schema: Any
) -> None:
    value = Writer(draw.draw).value(schema)
    assume(matches(schema, value))
    assert judge.accepts(compiled(schema), written(value)), (schema, value)


@_RELAXED
@given(
    low=st.none() | st.integers(-3000, 3000),
    high=st.none() | st.integers(-3000, 3000),
    above=st.booleans(),
    below=st.booleans(),
    number=st.integers(-30_000, 30_000),
)
def test_whole_numbers_pass_exactly_within_their_bounds(
    judge: Judge, low: int | None, high: int | None, above: bool, below: bool, number: int
) -> None:
    bounds = Bounds(
        None if low is None else Decimal(low), None if high is None else Decimal(high), above, below
    )
    body = integer_body(bounds)
    passes = body is not None and judge.accepts(Grammar().render(body), str(number))
    assert passes == is_within(bounds, Decimal(number))


def is_within(bounds: Bounds, number: Decimal) -> bool:
    low, high = bounds.low, bounds.high
    is_high_enough = low is None or (number > low if bounds.is_above_low else number >= low)
    return is_high_enough and (
        high is None or (number < high if bounds.is_below_high else number <= high)
    )


@settings(_RELAXED, max_examples=400)
@given(
    low=st.none() | st.integers(-3000, 3000),
    high=st.none() | st.integers(-3000, 3000),
    above=st.booleans(),
    below=st.booleans(),
    number=st.integers(-3200, 3200),
    places=st.sampled_from([1, 10, 100, 1000]),
)
def test_decimals_pass_exactly_within_their_bounds(
    judge: Judge,
    low: int | None,
    high: int | None,
    above: bool,
    below: bool,
    number: int,
    places: int,
) -> None:
    def scaled(value: int | None) -> Decimal | None:
        return None if value is None else Decimal(value) / places

    bounds = Bounds(scaled(low), scaled(high), above, below)
    body = number_body(bounds)
    exact = Decimal(number) / places
    passes = body is not None and judge.accepts(Grammar().render(body), f"{exact:f}")
    assert passes == is_within(bounds, exact)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_texts_pass_exactly_if_the_pattern_is_found_in_them(judge: Judge, pattern: str) -> None:
    grammar = Grammar()
    rules = grammar.render(pattern_body(grammar, pattern))
    plain = st.text(st.sampled_from('abcxyz09-@."\\'), max_size=7) | _matching(pattern)
    expression = re.compile(pattern, re.ASCII)

    @settings(_RELAXED, max_examples=60)
    @given(plain)
    def check(text: str) -> None:
        assert judge.accepts(rules, written(text)) == (expression.search(text) is not None)

    check()


def test_an_object_is_whatever_json_calls_one(judge: Judge) -> None:
    good = ["{}", '{"a": [1, -2.5e3, null, "\\u00e9\\n"]}', '{\n  "a": true\n}']
    bad = ["[]", "{", '{"a": 01}', '{"a": "\\ud800"}', "{'a': 1}", '{"a": 1,}', '{"a": "\n"}', ""]
    assert [judge.accepts(object_grammar(), text) for text in good] == [True] * len(good)
    assert [judge.accepts(object_grammar(), text) for text in bad] == [False] * len(bad)


def test_a_schema_that_refers_to_itself_is_followed_as_deep_as_the_answer_goes(
    judge: Judge,
) -> None:
    node = {
        "type": "object",
        "properties": {
            "value": {"type": "integer"},
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        },
        "required": ["value", "next"],
    }
    schema = {"$ref": "#/$defs/node", "$defs": {"node": node}}
    deep = '{"value": 1, "next": ' * 20 + "null" + "}" * 20
    assert accepts(judge, schema, deep, '{"value": 1, "next": {}}') == [True, False]


def test_members_not_declared_pass_only_where_they_are_allowed(judge: Judge) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"ab": {"type": "integer"}}}
    texts = ('{"ab": 1}', '{"ab": 1, "ac": "x"}', '{"ab": "x"}', '{"a": "x", "abc": "y"}')
    assert accepts(judge, schema, *texts) == [True, False, False, False]
    schema["additionalProperties"] = {"type": "string"}
    assert accepts(judge, schema, *texts) == [True, True, False, True]
    # Written with an escape it would be the same name again, with a value of another type.
    assert accepts(judge, schema, '{"\\u0061b": "x"}') == [False]


def test_alternatives_are_combined_with_what_stands_beside_them(judge: Judge) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    assert accepts(judge, schema, '{"a": 1}', '{"b": 1}', '{"a": 1, "b": 2}', "{}") == [
        True,
        True,
        True,
        False,
    ]


def test_one_of_several_is_told_apart_by_a_member(judge: Judge) -> None:
    def branch(kind: str, name: str) -> Any:
        properties = {"kind": {"const": kind}, name: {"type": "integer"}}
        return {"type": "object", "properties": properties, "required": ["kind", name]}

    schema = {"oneOf": [branch("cat", "lives"), branch("dog", "bones")]}
    good, bad = '{"kind": "dog", "bones": 3}', '{"kind": "cat", "bones": 3}'
    assert accepts(judge, schema, good, bad) == [True, False]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "format": "date-time"}, '"2024-02-29T23:59:59.5Z"', '"2024-02-29"'),
        ({"type": "string", "format": "time"}, '"10:00:00+02:00"', '"24:00:00Z"'),
        ({"type": "string", "format": "date"}, '"2000-02-29"', '"1900-02-29"'),
        ({"type": "string", "format": "email"}, '"a.b@example.org"', '"@example.org"'),
        ({"type": "string", "format": "uri"}, '"https://x.org/a?b=%20"', '"no uri"'),
        ({"type": "string", "format": "hostname"}, '"a-b.example"', '"-a"'),
        ({"type": "string", "format": "ipv6"}, '"1:2:3:4:5:6:7:8"', '"1:2"'),
        ({"type": "integer", "format": "int32"}, "-2147483648", "2147483648"),
        ({"type": "string", "nullable": True}, "null", "1"),
        ({"minimum": 3}, "4", '"4"'),
        ({"type": "array", "items": False}, "[]", "[1]"),
        ({"type": "object", "additionalProperties": False}, "{}", '{"a": 1}'),
        (
            {"type": "object", "additionalProperties": {"type": "null"}, "maxProperties": 1},
            '{"a": null}',
            '{"a": null, "b": null}',
        ),
        (
            {"prefixItems": [{"type": "null"}, True], "minItems": 2, "maxItems": 2},
            '[null, "x"]',
            "[null]",
        ),
        ({"type": "string", "minLength": 2, "maxLength": 2}, '"é\\n"', '"é"'),
        ({"allOf": [{"type": "number"}, {"type": "integer", "maximum": 2}]}, "2", "2.5"),
        ({"enum": [1, "a"], "type": "string"}, '"a"', "1"),
        ({"type": "integer", "minimum": 1e19}, "10000000000000000000", "9999999999999999999"),
    ],
)
def test_keywords_do_what_they_say(judge: Judge, schema: object, good: str, bad: str) -> None:
    assert accepts(judge, schema, good, bad) == [True, False]


def test_the_largest_schemas_that_we_take_are_taken_by_llama_cpp(judge: Judge) -> None:
    texts = {"type": "array", "items": {"type": "string", "maxLength": 1000}, "maxItems": 1000}
    wide = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(128)}}
    repeated = {"type": "string", "pattern": "^(([a-z]{1,4}-){1,4}x){1,32}$"}
    for schema in (texts, wide, repeated):
        assert not judge.accepts(compiled(schema), "!")


def test_drawn_schemas_are_all_within_what_can_be_enforced() -> None:
    for seed in range(300):
        compiled(SchemaDraw(random.Random(seed)).schema())


@_RELAXED
@given(
    marker=st.sampled_from(["</think>", "aab", "[/THINK]", "abab"]),
    text=st.text(st.sampled_from("</think>ab[]\n"), max_size=12),
)
def test_a_text_up_to_a_marker_ends_with_its_first_one(
    judge: Judge, marker: str, text: str
) -> None:
    grammar = Grammar()
    rules = grammar.render(until_rule(grammar, marker))
    for whole in (text, text + marker):
        assert judge.accepts(rules, whole) == (whole.find(marker) == len(whole) - len(marker) >= 0)


def test_an_answer_of_a_form_may_be_thought_about_first(judge: Judge) -> None:
    for answer in (JsonAnswer(), JsonAnswer('{"type": "object"}')):
        grammar = answer_grammar(answer, "</think>")
        assert grammar is not None
        assert judge.accepts(grammar, "Let me {think} </b>.\n</think>\n{}")
        assert not judge.accepts(grammar, "{}")
        assert not judge.accepts(grammar, "Hm.</think>Hm.")
