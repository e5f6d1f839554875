"""OpenAI's Responses API: what is sent, and what becomes of what comes back.

A whole answer, checked by the official client's types, is in tests/exchanges.
"""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.providers.answers import read_all, sse
from tests.unit.providers.asking import ASKING, CONVERSATION, GIF, PLAIN, SCHEMA, TOOL
from tests.unit.providers.cuts import cuts_of
from unified_llm.domain.chat import (
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    Tool,
    ToolCallDelta,
    ToolChoice,
    ToolUse,
    Usage,
)
from unified_llm.domain.errors import (
    ContentFiltered,
    InvalidRequest,
    ProviderFailed,
    ProviderOverloaded,
    UnifiedLlmError,
)
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Tokens
from unified_llm.providers.api import OfferedModel
from unified_llm.providers.responses import ResponseReader, Responses

EXCHANGES = Path(__file__).parents[2] / "exchanges"
WHOLE = (EXCHANGES / "openai-responses.sse").read_bytes()
CALLING = (EXCHANGES / "openai-responses-tool.sse").read_bytes()
EXPECTED = [
    ReasoningDelta("Short waves"),
    ReasoningDelta(" scatter."),
    TextDelta("Blue"),
    TextDelta(" light."),
    Finished(
        FinishReason.STOP,
        Usage(Tokens(2006), Tokens(300), Tokens(1024), reasoning_tokens=Tokens(192)),
    ),
]
CALLED = [
    ToolCallDelta(0, "call_9", "weather"),
    ToolCallDelta(0, arguments='{"city":'),
    ToolCallDelta(0, arguments='"Ulm"}'),
    Finished(FinishReason.TOOL_CALLS, Usage(Tokens(64), Tokens(17), reasoning_tokens=Tokens(0))),
]


def sent(**changes: Any) -> dict[str, Any]:
    outgoing = Responses().render_chat(replace(PLAIN, **changes), "model")
    assert outgoing.path == "responses"
    body: dict[str, Any] = json.loads(outgoing.body)
    return body


def told(kind: str, **more: object) -> str:
    return json.dumps({"type": kind, "sequence_number": 0, **more})


def text(content: str) -> str:
    return told("response.output_text.delta", delta=content)


def ended(kind: str = "completed", **response: object) -> str:
    return told(f"response.{kind}", response=response)


def item(at: int = 0, *, is_whole: bool = False, **call: str) -> str:
    kind = "response.output_item.done" if is_whole else "response.output_item.added"
    return told(kind, output_index=at, item={"type": "function_call", **call})


def test_a_plain_request_says_only_what_was_asked_and_has_nothing_kept() -> None:
    assert sent() == {
        "model": "model",
        "input": [{"role": "user", "content": "Sky?"}],
        "stream": True,
        "store": False,
    }


def test_a_summary_of_what_is_thought_is_asked_for_where_it_is_wanted() -> None:
    body = Responses(with_summary=True).render_chat(PLAIN, "model").body
    assert json.loads(body) == {**sent(), "reasoning": {"summary": "auto"}}


def test_a_conversation_is_told_whole() -> None:
    call = {"type": "function_call", "name": "weather"}
    output = {"type": "function_call_output"}
    assert sent(messages=CONVERSATION)["input"] == [
        {"role": "system", "content": "Brief."},
        {"role": "user", "content": "Rain in Ulm, and where else?"},
        {"role": "assistant", "content": "I look."},
        {**call, "call_id": "c1", "arguments": '{"city":"Ulm"}'},
        {**call, "call_id": "c2", "arguments": "{}"},
        {**output, "call_id": "c1", "output": "Rain"},
        {**output, "call_id": "c2", "output": "Sun"},
        {"role": "assistant", "content": "Only there."},
        {"role": "user", "content": "Thanks."},
    ]


def test_images_stand_where_they_were_shown() -> None:
    url = f"data:image/gif;base64,{base64.b64encode(GIF).decode()}"
    image = {"type": "input_image", "image_url": url, "detail": "auto"}
    (turn,) = sent(messages=ASKING["image_url"].messages)["input"]
    texts = [{"type": "input_text", "text": "This"}, {"type": "input_text", "text": " or that?"}]
    assert turn["content"] == [texts[0], image, texts[1], image]
    (turn,) = sent(messages=ASKING["image_url.detail"].messages)["input"]
    assert turn["content"][1]["detail"] == "high"


@pytest.mark.parametrize(
    ("use", "choice"),
    [
        (ToolUse((TOOL,)), None),
        (ToolUse((TOOL,), ToolChoice.NONE), "none"),
        (ToolUse((TOOL,), ToolChoice.REQUIRED), "required"),
        (
            ToolUse((TOOL,), ToolChoice.REQUIRED, "weather"),
            {"type": "function", "name": "weather"},
        ),
    ],
)
def test_tools_are_chosen_in_its_words(use: ToolUse, choice: object) -> None:
    body = sent(tool_use=use)
    assert body.get("tool_choice") == choice
    (tool,) = body["tools"]
    assert (tool["name"], tool["parameters"]) == ("weather", json.loads(SCHEMA))
    assert tool["strict"] is False
    assert "parallel_tool_calls" not in body
    assert sent(tool_use=replace(use, is_parallel=False))["parallel_tool_calls"] is False


def test_a_schema_that_is_no_json_can_not_change_the_body() -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[0\]"):
        sent(tool_use=ToolUse((Tool("evil", "", '{}},{"type":"function"'),)))


def test_keys_and_models_are_those_of_the_same_server() -> None:
    assert Responses().headers(Secret("k3y")) == {"authorization": "Bearer k3y"}
    assert Responses().parse_models(b'{"data":[{"id":"a"}]}') == (OfferedModel("a"),)


@given(cuts_of(WHOLE), cuts_of(CALLING))
def test_events_do_not_depend_on_the_cuts(pieces: list[bytes], calling: list[bytes]) -> None:
    assert read_all(ResponseReader(), pieces) == EXPECTED
    assert read_all(ResponseReader(), calling) == CALLED


def test_a_stream_cut_anywhere_is_no_answer() -> None:
    for end in range(len(CALLING) - 1):
        reader = ResponseReader()
        read_all(reader, [CALLING[:end]])
        assert not reader.is_done


def test_every_kind_of_piece_is_told_apart() -> None:
    pieces = [
        told("response.reasoning_text.delta", delta="Hm."),
        told("response.reasoning_summary_part.added", summary_index=0, part={}),
        told("response.reasoning_summary_text.delta", delta="Well."),
        told("response.reasoning_summary_part.added", summary_index=1, part={}),
        told("response.reasoning_summary_text.delta", delta="So."),
        text("Blue."),
        text(""),
        told("response.refusal.delta", delta="No."),
        told("response.unheard_of", delta={"not": "text"}),
    ]
    assert read_all(ResponseReader(), [sse(*pieces)]) == [
        ReasoningDelta("Hm."),
        ReasoningDelta("Well."),
        ReasoningDelta("\n\n"),
        ReasoningDelta("So."),
        TextDelta("Blue."),
        RefusalDelta("No."),
    ]


def test_calls_that_come_whole_are_understood() -> None:
    pieces = [
        item(1, call_id="a", name="f"),
        item(3, call_id="b", name="g"),
        told("response.function_call_arguments.delta", output_index=3, delta="{}"),
        item(1, is_whole=True, call_id="a", name="f", arguments='{"x":1}'),
        item(3, is_whole=True, call_id="b", name="g", arguments="{}"),
        item(4, is_whole=True, call_id="c", name="h"),
    ]
    assert read_all(ResponseReader(), [sse(*pieces)]) == [
        ToolCallDelta(0, "a", "f"),
        ToolCallDelta(1, "b", "g"),
        ToolCallDelta(1, arguments="{}"),
        ToolCallDelta(0, arguments='{"x":1}'),
        ToolCallDelta(2, "c", "h"),
        ToolCallDelta(2, arguments="{}"),
    ]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (ended(), FinishReason.STOP),
        (
            ended("incomplete", incomplete_details={"reason": "max_output_tokens"}),
            FinishReason.LENGTH,
        ),
        (
            ended("incomplete", incomplete_details={"reason": "content_filter"}),
            FinishReason.CONTENT_FILTER,
        ),
    ],
)
def test_finish_reasons_are_kept_and_unknown_usage_is_unknown(
    end: str, reason: FinishReason
) -> None:
    assert read_all(ResponseReader(), [sse(text("Blue"), end)]) == [
        TextDelta("Blue"),
        Finished(reason, None),
    ]


def test_what_is_kept_for_hours_is_counted_apart() -> None:
    kept = {"ttl_12h_tokens": 30, "ttl_30m_tokens": 12}
    details = {"cached_tokens": 5, "cache_write_tokens": 42, "cache_write_tokens_details": kept}
    used = {"input_tokens": 50, "output_tokens": 3, "input_tokens_details": details}
    (finished,) = read_all(ResponseReader(), [sse(ended(usage=used))])
    assert isinstance(finished, Finished)
    assert finished.usage == Usage(
        Tokens(50), Tokens(3), Tokens(5), Tokens(42), long_cache_write_tokens=Tokens(30)
    )


@pytest.mark.parametrize(
    "told",
    [
        {"input_tokens": -1},
        {"output_tokens": -1},
        {"input_tokens_details": {"cached_tokens": 51}},
        {"input_tokens_details": {"cache_write_tokens_details": {"ttl_12h_tokens": 1}}},
        {"output_tokens_details": {"reasoning_tokens": 4}},
    ],
)
def test_counts_that_can_not_be_are_no_counts(told: dict[str, Any]) -> None:
    used = {"input_tokens": 50, "output_tokens": 3, **told}
    answer = sse(ended(usage=used))
    assert read_all(ResponseReader(), [answer]) == [Finished(FinishReason.STOP, None)]


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (ended("incomplete", incomplete_details={"reason": "whim"}), ProviderFailed),
        (ended("incomplete"), ProviderFailed),
        (ended("failed", error={"code": "server_error", "message": "Broke."}), ProviderFailed),
        (ended("failed", error={"code": "rate_limit_exceeded"}), ProviderOverloaded),
        (ended("failed", error={"code": "invalid_prompt"}), ContentFiltered),
        (ended("failed"), ProviderFailed),
        (told("error", code="rate_limit_exceeded", message="Slowly."), ProviderOverloaded),
        (told("error", message="Broke."), ProviderFailed),
        (told("response.completed"), ProviderFailed),
        (item(call_id="a"), ProviderFailed),
        (told("response.function_call_arguments.delta", output_index=7, delta="{"), ProviderFailed),
        (told("response.output_text.delta", delta=7), ProviderFailed),
        ("[DONE]", ProviderFailed),
        ("{}", ProviderFailed),
        ("null", ProviderFailed),
    ],
)
def test_what_is_no_answer_is_an_error(event: str, error: type[UnifiedLlmError]) -> None:
    assert read_all(ResponseReader(), [sse(event)]) == [error]


def test_nothing_is_read_after_the_end() -> None:
    reader = ResponseReader()
    read_all(reader, [sse(ended(), text("more"), "[DONE]")])
    assert reader.is_done
    assert read_all(reader, [sse(text("more"))]) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["item", "delta", "response", "usage", "error"]), inner)
    ),
    max_leaves=10,
)
KINDS = st.sampled_from(
    ["response.output_text.delta", "response.output_item.added", "response.completed", "error", ""]
)


@given(st.lists(st.tuples(KINDS, st.dictionaries(st.text(max_size=5), JSON)), max_size=4))
def test_hostile_json_is_no_surprise(events: list[tuple[str, dict[str, Any]]]) -> None:
    read_all(
        ResponseReader(), [sse(*(json.dumps({**more, "type": kind}) for kind, more in events))]
    )
