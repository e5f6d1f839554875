"""Anthropic's messages: what is sent, and what becomes of what comes back.

The stream is written by hand after the documentation; that its shape is right is checked with the
types of the official client.
"""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from pydantic import TypeAdapter

from tests.unit.providers.answers import read_all, sse
from tests.unit.providers.asking import ASKING, GIF, PLAIN, SCHEMA, TOOL
from tests.unit.providers.cuts import cuts_of
from unified_llm.domain.chat import (
    Finished,
    FinishReason,
    Message,
    ReasoningDelta,
    Role,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolUse,
    Usage,
)
from unified_llm.domain.errors import (
    InvalidRequest,
    ProviderFailed,
    ProviderOverloaded,
    UnifiedLlmError,
)
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Tokens
from unified_llm.providers.anthropic import MessageReader, Messages
from unified_llm.providers.api import OfferedModel

START: dict[str, Any] = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 4,
            "cache_read_input_tokens": 16,
            "output_tokens": 1,
        },
    },
}


def block(index: int, **content: object) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, **content: object) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": content}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def end(reason: str = "tool_use") -> list[dict[str, Any]]:
    told = {"stop_reason": reason, "stop_sequence": None}
    used = {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 5}}
    return [{"type": "message_delta", "delta": told, "usage": used}, {"type": "message_stop"}]


EVENTS: list[dict[str, Any]] = [
    START,
    block(0, type="thinking", thinking="", signature=""),
    delta(0, type="thinking_delta", thinking="Hm."),
    delta(0, type="signature_delta", signature="c2ln"),
    stop(0),
    block(1, type="text", text=""),
    delta(1, type="text_delta", text="Grüß "),
    delta(1, type="text_delta", text="Gott"),
    stop(1),
    block(2, type="tool_use", id="t1", name="weather", input={}),
    delta(2, type="input_json_delta", partial_json=""),
    delta(2, type="input_json_delta", partial_json='{"city"'),
    delta(2, type="input_json_delta", partial_json=':"Ulm"}'),
    stop(2),
    block(3, type="tool_use", id="t2", name="now", input={}),
    stop(3),
    *end(),
]


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(sse(json.dumps(event), event=event["type"]) for event in events)


WHOLE = stream(*EVENTS[:1]) + sse('{"type": "ping"}', event="ping") + stream(*EVENTS[1:])
EXPECTED = [
    ReasoningDelta("Hm."),
    TextDelta("Grüß "),
    TextDelta("Gott"),
    ToolCallDelta(0, "t1", "weather"),
    ToolCallDelta(0, arguments='{"city"'),
    ToolCallDelta(0, arguments=':"Ulm"}'),
    ToolCallDelta(1, "t2", "now"),
    ToolCallDelta(1, arguments="{}"),
    Finished(
        FinishReason.TOOL_CALLS,
        Usage(Tokens(30), Tokens(9), Tokens(16), Tokens(4), Tokens(5)),
    ),
]


def sent(**changes: Any) -> dict[str, Any]:
    outgoing = Messages().render_chat(replace(PLAIN, **changes), "claude")
    assert outgoing.path == "messages"
    body: dict[str, Any] = json.loads(outgoing.body)
    return body


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["type"])
def test_the_stream_has_the_shape_of_the_official_types(event: dict[str, Any]) -> None:
    TypeAdapter[Any](RawMessageStreamEvent).validate_python(event)


@given(cuts_of(WHOLE))
def test_events_do_not_depend_on_the_cuts(pieces: list[bytes]) -> None:
    assert read_all(MessageReader(), pieces) == EXPECTED


def test_a_stream_cut_anywhere_is_no_answer() -> None:
    for length in range(len(WHOLE) - 1):
        reader = MessageReader()
        read_all(reader, [WHOLE[:length]])
        assert not reader.is_done


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("refusal", FinishReason.CONTENT_FILTER),
    ],
)
def test_finish_reasons_are_kept(word: str, reason: FinishReason) -> None:
    (finished,) = read_all(MessageReader(), [stream(START, *end(word))])
    assert isinstance(finished, Finished)
    assert finished.reason is reason


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([{"type": "message_stop"}], ProviderFailed),
        (end("pause_turn"), ProviderFailed),
        ([delta(7, type="input_json_delta", partial_json="{")], ProviderFailed),
        ([block(0, type="tool_use", input={})], ProviderFailed),
        ([{"type": "content_block_delta", "delta": []}], ProviderFailed),
        (
            [{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}],
            ProviderOverloaded,
        ),
    ],
)
def test_what_is_no_answer_is_an_error(
    events: list[dict[str, Any]], error: type[UnifiedLlmError]
) -> None:
    assert read_all(MessageReader(), [stream(*events)])[-1] is error


def test_usage_that_is_not_told_is_unknown() -> None:
    (finished,) = read_all(MessageReader(), [stream(*end("end_turn"))])
    assert finished == Finished(FinishReason.STOP, None)


@pytest.mark.parametrize(
    "told",
    [
        {"input_tokens": -1},
        {"output_tokens": -1},
        {"cache_read_input_tokens": -1},
        {"cache_creation_input_tokens": -1},
        {"cache_creation": {"ephemeral_1h_input_tokens": 5}},
        {"output_tokens_details": {"thinking_tokens": 10}},
    ],
)
def test_counts_that_can_not_be_are_no_counts(told: dict[str, Any]) -> None:
    changed, stopped = end("end_turn")
    changed = {**changed, "usage": {**changed["usage"], **told}}
    assert read_all(MessageReader(), [stream(START, changed, stopped)]) == [
        Finished(FinishReason.STOP, None)
    ]


def test_the_system_speaks_first_and_turns_alternate() -> None:
    call = ToolCall("t1", "weather", '{"city":"Ulm"}')
    body = sent(
        messages=(
            Message(Role.SYSTEM, "Brief."),
            Message(Role.USER, "Rain?"),
            Message(Role.ASSISTANT, "", (call,)),
            Message(Role.TOOL, "Yes", tool_call_id="t1"),
            Message(Role.USER, "Sure?"),
        ),
    )
    assert body["system"] == "Brief."
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Rain?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm"}}
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "Yes"},
                {"type": "text", "text": "Sure?"},
            ],
        },
    ]
    with pytest.raises(InvalidRequest, match=r"messages\[1\]"):
        sent(messages=(Message(Role.USER, "Hi"), Message(Role.SYSTEM, "Brief.")))


def test_images_stand_where_they_were_shown() -> None:
    (turn,) = sent(messages=ASKING["image_url"].messages)["messages"]
    data = base64.b64encode(GIF).decode()
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/gif", "data": data},
    }
    texts = [{"type": "text", "text": "This"}, {"type": "text", "text": " or that?"}]
    assert turn["content"] == [texts[0], image, texts[1], image]


@pytest.mark.parametrize(
    ("use", "choice"),
    [
        (ToolUse((TOOL,)), {"type": "auto"}),
        (ToolUse((TOOL,), ToolChoice.NONE, is_parallel=False), {"type": "none"}),
        (ToolUse((TOOL,), ToolChoice.REQUIRED), {"type": "any"}),
        (
            ToolUse((TOOL,), ToolChoice.REQUIRED, "weather", is_parallel=False),
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tools_are_chosen_in_its_words(use: ToolUse, choice: dict[str, object]) -> None:
    body = sent(tool_use=use)
    assert body["tool_choice"] == choice
    assert body["tools"][0]["input_schema"] == json.loads(SCHEMA)


def test_the_key_is_in_its_own_header() -> None:
    headers = Messages().headers(Secret("k3y"))
    assert headers == {"anthropic-version": "2023-06-01", "x-api-key": "k3y"}


def test_models_are_listed_with_their_context() -> None:
    body = b'{"data":[{"id":"claude","type":"model","max_input_tokens":200000},{"id":"old"}]}'
    assert Messages().parse_models(body) == (
        OfferedModel("claude", Tokens(200_000)),
        OfferedModel("old"),
    )
