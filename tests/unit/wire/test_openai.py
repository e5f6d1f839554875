"""What is taken of OpenAI's request, and what is refused by name."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unified_llm.domain.chat import ChatRequest, JsonAnswer, Message, Role, Sampling
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.sampling import NUMBERS
from unified_llm.wire.openai import AskedChat, parse_chat

USER = {"role": "user", "content": "Sky?"}


def parse(**fields: Any) -> AskedChat:
    body = {"model": "tiny", "messages": [USER], **fields}
    return parse_chat(json.dumps(body).encode())


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    return caught.value


def test_every_field_finds_its_place() -> None:
    asked = parse(
        messages=[{"role": "system", "content": "Brief."}, {**USER, "name": "ann"}],
        max_tokens=5,
        stop=["a", "b"],
        stream=True,
        stream_options={"include_usage": True},
        logprobs=True,
        top_logprobs=3,
        logit_bias={"7": -100, "0": 1.5},
        ignore_eos=True,
        **{name: number.least for name, number in NUMBERS.items()},
    )
    assert asked.is_stream
    assert asked.wants_usage
    request = asked.request
    assert request.messages == (Message(Role.SYSTEM, "Brief."), Message(Role.USER, "Sky?"))
    assert (request.max_tokens, request.stop) == (5, ("a", "b"))
    assert request.top_logprobs == 3
    numbers: dict[str, Any] = {name: number.least for name, number in NUMBERS.items()}
    assert request.sampling == Sampling(
        **numbers, logit_bias=((7, -100.0), (0, 1.5)), ignore_eos=True
    )


@pytest.mark.parametrize("key", ["", "x", "-1", "1.0", " 1", "1" * 11, "١"])  # noqa: RUF001
def test_a_bias_for_what_is_no_token_is_refused(key: str) -> None:
    assert refusal(logit_bias={key: 1}).parameter == "logit_bias"


def test_what_is_left_out_or_null_is_the_daemons_default() -> None:
    bare = parse()
    names = ["max_tokens", "stop", "stream", "temperature", "tools", "n", "seed", "logit_bias"]
    assert parse(**dict.fromkeys(names)) == bare
    assert bare.request.sampling == Sampling()
    assert not bare.is_stream


def test_logprobs_are_told_only_when_asked_for() -> None:
    assert parse(logprobs=True).request.top_logprobs == 0
    assert parse(logprobs=False).request.top_logprobs is None
    assert refusal(top_logprobs=2).parameter == "top_logprobs"
    assert refusal(logprobs=False, top_logprobs=1).parameter == "top_logprobs"


def test_several_answers_are_asked_for_by_number() -> None:
    assert parse().request.choices == 1
    assert parse(n=3).request.choices == 3
    assert refusal(n="3").parameter == "n"


def test_newer_words_mean_the_older_ones() -> None:
    asked = parse(messages=[{"role": "developer", "content": "Brief."}], max_completion_tokens=3)
    assert asked.request.messages[0].role is Role.SYSTEM
    assert asked.request.max_tokens == 3
    assert parse(max_tokens=3, max_completion_tokens=3).request.max_tokens == 3
    assert refusal(max_tokens=3, max_completion_tokens=4).parameter == "max_completion_tokens"


def test_text_parts_become_paragraphs() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert parse(messages=[{"role": "user", "content": parts}]).request.messages == (
        Message(Role.USER, "one\ntwo"),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"parallel_tool_calls": True, "safety_identifier": "x", "prompt_cache_key": "k"},
        {"n": 1, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}},
        {"logprobs": False, "top_logprobs": 0, "logit_bias": {}, "modalities": ["text"]},
    ],
)
def test_options_that_change_nothing_are_taken(fields: dict[str, Any]) -> None:
    assert parse(**fields) == parse()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audio", {"voice": "x"}),
        ("store", True),
        ("modalities", ["audio"]),
        ("web_search_options", {"a": 1}),
    ],
)
def test_what_this_daemon_can_not_do_is_refused_by_name(name: str, value: object) -> None:
    error = refusal(**{name: value})
    assert error.parameter == name
    assert "not supported" in error.message


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"model": 1}, "model"),
        ({"model": None}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [USER, {}]}, "messages[1].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [1]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{**USER, "tool_calls": [1]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [{**USER, "extra": 1}]}, "messages[0].extra"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"seed": True}, "seed"),
        ({"stop": 1}, "stop"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"x": 1}}, "stream_options.x"),
        ({"api_base": "http://evil"}, "api_base"),
        ({"<b>": 1}, "<b>"),
    ],
)
def test_wrong_fields_are_named_by_their_path(fields: dict[str, Any], parameter: str) -> None:
    assert refusal(**fields).parameter == parameter


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": [1] * 1000},
        {"messages": [1] * 1000},
        {"messages": [{"role": "user", "content": [1] * 1000}]},
    ],
)
def test_the_first_wrong_item_ends_the_search(fields: dict[str, Any]) -> None:
    """A hundred thousand wrong items once held up the event loop for half a second."""
    cause = refusal(**fields).__cause__
    assert isinstance(cause, ValidationError)
    assert cause.error_count() == 1


def test_a_typing_error_is_answered_with_the_nearest_name() -> None:
    assert "'temperature'" in refusal(temprature=1).hint


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"null"])
def test_a_body_that_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="object"):
        parse_chat(raw)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(["model", "messages", "stop", "n", "tools", "stream", "user", "seed"])


@given(st.dictionaries(NAMES | st.text(max_size=9), VALUES, max_size=6))
def test_any_object_is_a_chat_or_a_clear_refusal(body: dict[str, Any]) -> None:
    raw = json.dumps({"model": "tiny", "messages": [USER], **body}).encode()
    with suppress(InvalidRequest):
        assert isinstance(parse_chat(raw).request, ChatRequest)


SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonAnswer()),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}},
            JsonAnswer('{"type": "object", "properties": {"b": {}, "a": {}}}'),
        ),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, JsonAnswer()),
    ],
)
def test_the_form_of_the_answer_is_taken_with_its_order(
    given: object, answer: JsonAnswer | None
) -> None:
    assert parse(response_format=given).request.answer == answer


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"type": "grammar"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "a b"}},
            "response_format.json_schema.name",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": []}},
            "response_format.json_schema.schema",
        ),
        ({"type": "json_object", "schema": SCHEMA}, "response_format.schema"),
        ("json", "response_format"),
    ],
)
def test_a_form_that_is_none_is_refused_by_its_path(given: object, parameter: str) -> None:
    assert refusal(response_format=given).parameter == parameter


def test_thoughts_that_come_back_are_taken_without_effect() -> None:
    said = {"role": "assistant", "content": "Yes."}
    thought = {**said, "reasoning_content": "Hm."}
    assert parse(messages=[USER, thought]) == parse(messages=[USER, said])
