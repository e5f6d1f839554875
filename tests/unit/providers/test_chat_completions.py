"""OpenAI's chat completions: what is sent, and what becomes of what comes back."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.providers.answers import read_all, sse
from tests.unit.providers.asking import ASKING, GIF, PLAIN, SCHEMA, TOOL
from tests.unit.providers.cuts import cuts_of
from unified_llm.domain.chat import (
    ChoiceEnded,
    Finished,
    FinishReason,
    Message,
    ReasoningDelta,
    RefusalDelta,
    Role,
    TextDelta,
    Tool,
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
    ProviderRefused,
    UnifiedLlmError,
)
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Tokens
from unified_llm.providers.api import OfferedModel
from unified_llm.providers.chat_completions import ChatCompletions, ChatReader

END = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
USED = (
    '{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,'
    '"prompt_tokens_details":{"cached_tokens":16,"cache_write_tokens":4},'
    '"completion_tokens_details":{"reasoning_tokens":5}}}'
)


def text(content: str) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": content}}]})


def sent(**changes: Any) -> dict[str, Any]:
    outgoing = ChatCompletions().render_chat(replace(PLAIN, **changes), "model")
    assert outgoing.path == "chat/completions"
    body: dict[str, Any] = json.loads(outgoing.body)
    return body


def test_a_plain_request_says_only_what_was_asked() -> None:
    assert sent() == {
        "model": "model",
        "messages": [{"role": "user", "content": "Sky?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_conversation_with_tools_is_told_whole() -> None:
    call = ToolCall("c1", "weather", '{"city":"Ulm"}')
    body = sent(
        messages=(
            Message(Role.SYSTEM, "Brief."),
            Message(Role.ASSISTANT, "", (call,)),
            Message(Role.TOOL, "Rain", tool_call_id="c1"),
        ),
        tool_use=ToolUse((TOOL,), ToolChoice.REQUIRED, "weather", is_parallel=False),
    )
    assert body["messages"] == [
        {"role": "system", "content": "Brief."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Ulm"}'},
                }
            ],
        },
        {"role": "tool", "content": "Rain", "tool_call_id": "c1"},
    ]
    assert body["tools"][0]["function"]["parameters"] == json.loads(SCHEMA)
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["parallel_tool_calls"] is False


def test_images_stand_where_they_were_shown() -> None:
    url = f"data:image/gif;base64,{base64.b64encode(GIF).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    (turn,) = sent(messages=ASKING["image_url"].messages)["messages"]
    texts = [{"type": "text", "text": "This"}, {"type": "text", "text": " or that?"}]
    assert turn["content"] == [texts[0], image, texts[1], image]
    (turn,) = sent(messages=ASKING["image_url.detail"].messages)["messages"]
    assert turn["content"][1]["image_url"]["detail"] == "high"


def test_several_choices_are_asked_for_by_their_number() -> None:
    assert sent(choices=3)["n"] == 3


def test_a_schema_is_sent_as_it_was_written() -> None:
    raw = ChatCompletions().render_chat(ASKING["response_format.json_schema"], "model").body
    assert SCHEMA.encode() in raw


def test_a_schema_that_is_no_json_can_not_change_the_body() -> None:
    tool = Tool("evil", "", '{}},{"type":"function"')
    with pytest.raises(InvalidRequest, match=r"tools\[0\]"):
        sent(tool_use=ToolUse((tool,)))


def test_the_key_is_in_the_header_alone() -> None:
    api = ChatCompletions()
    assert api.headers(Secret("k3y")) == {"authorization": "Bearer k3y"}
    assert api.headers(None) == {}


def test_models_are_listed_with_their_context_where_it_is_told() -> None:
    body = b'{"object":"list","data":[{"id":"a","max_model_len":4096},{"id":"b","object":"model"}]}'
    found = ChatCompletions().parse_models(body)
    assert found == (OfferedModel("a", Tokens(4096)), OfferedModel("b"))
    with pytest.raises(ProviderFailed):
        ChatCompletions().parse_models(b'{"data": "all of them"}')


def test_an_answer_is_text_and_its_end() -> None:
    answer = sse('{"choices":[{"delta":{"role":"assistant","content":""}}]}', text("Blue"), END)
    assert read_all(ChatReader(), [answer + sse(USED, "[DONE]")]) == [
        TextDelta("Blue"),
        Finished(FinishReason.STOP, Usage(Tokens(20), Tokens(9), Tokens(16), Tokens(4), Tokens(5))),
    ]


def test_unknown_usage_is_unknown() -> None:
    (finished,) = read_all(ChatReader(), [sse(END, "[DONE]")])
    assert finished == Finished(FinishReason.STOP, None)


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_tokens": -1},
        {"completion_tokens": -9},
        {"prompt_tokens": 10**30},
        {"prompt_tokens_details": {"cached_tokens": 21}},
        {"prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 5}},
        {"prompt_cache_hit_tokens": 21},
        {"completion_tokens_details": {"reasoning_tokens": 10}},
        {"completion_tokens_details": {"reasoning_tokens": -1}},
    ],
)
def test_counts_that_can_not_be_are_no_counts(told: dict[str, Any]) -> None:
    used = {"prompt_tokens": 20, "completion_tokens": 9, **told}
    answer = sse(END, json.dumps({"choices": [], "usage": used}), "[DONE]")
    assert read_all(ChatReader(), [answer]) == [Finished(FinishReason.STOP, None)]


def test_every_kind_of_piece_is_told_apart() -> None:
    pieces = [
        '{"choices":[{"delta":{"reasoning_content":"Hm."}}]}',
        '{"choices":[{"delta":{"reasoning":"Well."}}]}',
        '{"choices":[{"delta":{"content":"Blue."}}]}',
        '{"choices":[{"delta":{"refusal":"No."}}]}',
    ]
    assert read_all(ChatReader(), [sse(*pieces)]) == [
        ReasoningDelta("Hm."),
        ReasoningDelta("Well."),
        TextDelta("Blue."),
        RefusalDelta("No."),
    ]


def call_piece(**call: object) -> str:
    return json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]})


def test_pieces_of_calls_are_told_apart() -> None:
    pieces = [
        call_piece(index=0, id="a", type="function", function={"name": "f", "arguments": ""}),
        call_piece(index=0, function={"arguments": '{"x"'}),
        call_piece(index=1, id="b", function={"name": "g", "arguments": "{}"}),
        call_piece(index=0, function={"arguments": ":1}"}),
    ]
    assert read_all(ChatReader(), [sse(*pieces)]) == [
        ToolCallDelta(0, "a", "f", ""),
        ToolCallDelta(0, arguments='{"x"'),
        ToolCallDelta(1, "b", "g", "{}"),
        ToolCallDelta(0, arguments=":1}"),
    ]


def test_servers_that_repeat_or_leave_out_are_understood() -> None:
    pieces = [
        call_piece(index=0, id="a", function={"name": "f", "arguments": "{"}),
        call_piece(index=0, id="a", function={"name": "f", "arguments": "}"}),
        call_piece(id="b", function={"name": "g", "arguments": "{}"}),  # whole, without an index
    ]
    assert read_all(ChatReader(), [sse(*pieces)]) == [
        ToolCallDelta(0, "a", "f", "{"),
        ToolCallDelta(0, arguments="}"),
        ToolCallDelta(1, "b", "g", "{}"),
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("eos_token", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
    ],
)
def test_finish_reasons_are_kept(word: str, reason: FinishReason) -> None:
    assert read_all(ChatReader(), [sse(END.replace("stop", word), "[DONE]")]) == [
        Finished(reason, None)
    ]


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (["[DONE]"], ProviderFailed),
        ([END.replace("stop", "whim"), "[DONE]"], ProviderFailed),
        ([END.replace("stop", "insufficient_system_resource")], ProviderOverloaded),
        ([END, text("more")], ProviderFailed),
        (["{"], ProviderFailed),
        (["null"], ProviderFailed),
        (['{"choices":[{"delta":{"content":7}}]}'], ProviderFailed),
        (['{"choices":{}}'], ProviderFailed),
        (["[" * 10_000], ProviderFailed),
        (['{"choices":[{"delta":{"content":"\\ud800"}}]}'], ProviderFailed),
        ([call_piece(index=0, id="a", function={"arguments": "{}"})], ProviderFailed),
        (['{"error":{"message":"busy","type":"overloaded_error"}}'], ProviderOverloaded),
    ],
)
def test_what_is_no_answer_is_an_error(events: list[str], error: type[UnifiedLlmError]) -> None:
    assert read_all(ChatReader(), [sse(*events)])[-1] is error


def test_an_answer_of_our_own_daemon_that_failed_is_an_error() -> None:
    failed = (
        '{"choices":[{"index":0,"delta":{},"finish_reason":"error"}],"error":{"message":'
        '"The worker died.","type":"server_error","param":null,"code":"worker-died"}}'
    )
    assert read_all(ChatReader(), [sse(text("Blue"), failed)]) == [
        TextDelta("Blue"),
        ProviderFailed,
    ]


def of(index: object, content: str | None = None, reason: str | None = None) -> str:
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return json.dumps({"choices": [choice]})


def test_choices_are_told_apart_and_each_ends() -> None:
    both = '{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}'
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    called = json.dumps({"choices": [{"index": 1, "delta": {"tool_calls": [call]}}]})
    events = [both, of(1, "B"), of(0, reason="length"), called, of(1, reason="tool_calls"), USED]
    usage = Usage(Tokens(20), Tokens(9), Tokens(16), Tokens(4), Tokens(5))
    assert read_all(ChatReader(2), [sse(*events, "[DONE]")]) == [
        TextDelta("a"),
        TextDelta("b", choice=1),
        TextDelta("B", choice=1),
        ChoiceEnded(0, FinishReason.LENGTH),
        ToolCallDelta(0, "c", "f", "{}", choice=1),
        Finished(FinishReason.TOOL_CALLS, usage, choice=1),
    ]


@pytest.mark.parametrize(
    "events",
    [
        [of(0, "c"), "[DONE]"],
        [of(0, "c"), of(1, reason="stop"), "[DONE]"],
        [USED, "[DONE]"],
        [of(1, reason="stop"), of(1, "more")],
    ],
)
def test_choices_that_break_off_are_a_fault_of_the_provider(events: list[str]) -> None:
    assert read_all(ChatReader(2), [sse(*events)])[-1] is ProviderFailed


@pytest.mark.parametrize(
    ("events", "fact"),
    [
        ([of(0, "c"), of(0, reason="stop"), "[DONE]"], "it sent 1 of 3 choices"),
        ([of(0, reason="stop"), of(1, reason="stop"), "[DONE]"], "it sent 2 of 3 choices"),
        ([of(3, "c")], "it sent choice 3 of 3"),
        ([of(-1, "c")], "it sent choice -1 of 3"),
        ([of(None, "c")], "it sent choice None of 3"),
    ],
)
def test_a_server_that_ignores_the_number_of_choices_is_well(events: list[str], fact: str) -> None:
    with pytest.raises(ProviderRefused, match=f"ignored `n`: {fact}") as caught:
        list(ChatReader(3).feed(sse(*events)))
    assert "Leave it out" in caught.value.hint
    assert caught.value.has_answered


def test_nothing_is_read_after_the_end() -> None:
    reader = ChatReader()
    read_all(reader, [sse(END, "[DONE]", text("more"))])
    assert reader.is_done
    assert read_all(reader, [sse(text("more"), "[DONE]")]) == []


WHOLE = sse(text("Blü"), call_piece(id="a", function={"name": "f"}), END, USED, "[DONE]")
EXPECTED = read_all(ChatReader(), [WHOLE])


@given(cuts_of(WHOLE))
def test_events_do_not_depend_on_the_cuts(pieces: list[bytes]) -> None:
    assert read_all(ChatReader(), pieces) == EXPECTED


def test_a_stream_cut_anywhere_is_no_answer() -> None:
    for end in range(len(WHOLE) - 1):
        reader = ChatReader()
        read_all(reader, [WHOLE[:end]])
        assert not reader.is_done


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "tool_calls", "usage", "error", "function"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_hostile_json_is_no_surprise(values: list[object]) -> None:
    read_all(ChatReader(), [sse(*(json.dumps(value) for value in values))])


@given(st.binary(max_size=80))
def test_hostile_bytes_are_no_surprise(content: bytes) -> None:
    read_all(ChatReader(), [b"data: " + content + b"\n\n"])
