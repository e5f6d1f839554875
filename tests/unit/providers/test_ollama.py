"""Ollama's own API: what is sent, and what becomes of what comes back.

The lines are written by hand after the documentation; that their shape is right is checked with the
types of the official client.
"""

import base64
import json
from dataclasses import replace
from typing import Any

import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.providers.answers import read_all
from tests.unit.providers.asking import ASKING, GIF, PLAIN
from tests.unit.providers.cuts import cuts_of
from unified_llm.domain.chat import (
    Finished,
    FinishReason,
    Message,
    ReasoningDelta,
    Role,
    Sampling,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from unified_llm.domain.errors import InvalidRequest, ProviderFailed
from unified_llm.domain.units import Tokens
from unified_llm.providers.api import OfferedModel
from unified_llm.providers.ollama import ChatLines, OllamaChat


def line(message: dict[str, Any], **more: object) -> dict[str, Any]:
    told = {"role": "assistant", "content": "", **message}
    created = "2026-01-01T00:00:00.000000Z"
    return {"model": "m", "created_at": created, "message": told, "done": False, **more}


CALL = {"function": {"name": "weather", "arguments": {"city": "Ulm", "days": 2}}}
END = line({}, done=True, done_reason="stop", prompt_eval_count=20, eval_count=9, total_duration=1)
LINES = [
    line({"thinking": "Hm."}),
    line({"content": "Grüß "}),
    line({"content": "Gott"}),
    line({"tool_calls": [CALL, CALL]}),
    END,
]


def encoded(*lines: dict[str, Any]) -> bytes:
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines).encode()


WHOLE = encoded(*LINES)
EXPECTED = [
    ReasoningDelta("Hm."),
    TextDelta("Grüß "),
    TextDelta("Gott"),
    ToolCallDelta(0, "call_0", "weather", '{"city":"Ulm","days":2}'),
    ToolCallDelta(1, "call_1", "weather", '{"city":"Ulm","days":2}'),
    Finished(FinishReason.TOOL_CALLS, Usage(Tokens(20), Tokens(9))),
]


@pytest.mark.parametrize("told", LINES)
def test_the_lines_have_the_shape_of_the_official_types(told: dict[str, Any]) -> None:
    ollama.ChatResponse.model_validate(told)


@given(cuts_of(WHOLE))
def test_events_do_not_depend_on_the_cuts(pieces: list[bytes]) -> None:
    assert read_all(ChatLines(), pieces) == EXPECTED


def test_a_stream_cut_anywhere_is_no_answer() -> None:
    for length in range(len(WHOLE) - 1):
        reader = ChatLines()
        read_all(reader, [WHOLE[:length]])
        assert not reader.is_done


@pytest.mark.parametrize(
    ("end", "finished"),
    [
        (END, Finished(FinishReason.STOP, Usage(Tokens(20), Tokens(9)))),
        ({**END, "done_reason": None, "eval_count": None}, Finished(FinishReason.STOP, None)),
        ({**END, "eval_count": -9}, Finished(FinishReason.STOP, None)),
        ({**END, "prompt_eval_count": -1}, Finished(FinishReason.STOP, None)),
        (
            {**END, "done_reason": "length"},
            Finished(FinishReason.LENGTH, Usage(Tokens(20), Tokens(9))),
        ),
    ],
)
def test_an_end_says_why_and_how_much(end: dict[str, Any], finished: Finished) -> None:
    assert read_all(ChatLines(), [encoded(end)]) == [finished]


@pytest.mark.parametrize(
    "told",
    [
        {"error": "the model has crashed"},
        {**END, "done_reason": "load"},
        {"message": "text", "done": False},
        {"message": {"tool_calls": [{"function": {"name": "f", "arguments": "text"}}]}},
    ],
)
def test_what_is_no_answer_is_an_error(told: dict[str, Any]) -> None:
    assert read_all(ChatLines(), [encoded(told)])[-1] is ProviderFailed


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_hostile_lines_are_no_surprise(lines: list[bytes]) -> None:
    read_all(ChatLines(), [content + b"\n" for content in lines])


def test_a_conversation_with_tools_is_told_in_its_words() -> None:
    messages = (
        Message(Role.ASSISTANT, "", (ToolCall("c1", "weather", '{"city":"Ulm"}'),)),
        Message(Role.TOOL, "Rain", tool_call_id="c1"),
    )
    body = json.loads(OllamaChat().render_chat(replace(PLAIN, messages=messages), "m").body)
    assert body["messages"] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Ulm"}}}],
        },
        {"role": "tool", "content": "Rain", "tool_name": "weather"},
    ]
    with pytest.raises(InvalidRequest, match="no message before it"):
        OllamaChat().render_chat(replace(PLAIN, messages=messages[1:]), "m")


def test_images_stand_beside_the_text() -> None:
    body = json.loads(OllamaChat().render_chat(ASKING["image_url"], "m").body)
    data = base64.b64encode(GIF).decode()
    asked = {"role": "user", "content": "This or that?", "images": [data, data]}
    assert body["messages"] == [asked]


def test_sampling_goes_into_the_options() -> None:
    asked = replace(PLAIN, sampling=Sampling(temperature=0.0, top_k=0), max_tokens=Tokens(9))
    body = json.loads(OllamaChat().render_chat(asked, "m").body)
    assert body["options"] == {"temperature": 0.0, "top_k": 0, "num_predict": 9}


def test_models_are_listed() -> None:
    body = b'{"models":[{"name":"qwen3:4b","model":"qwen3:4b","size":7,"details":{}}]}'
    assert OllamaChat().parse_models(body) == (OfferedModel("qwen3:4b"),)
