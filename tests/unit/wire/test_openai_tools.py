"""Tools and calls as OpenAI's clients send them."""

import json
from typing import Any

import pytest

from unified_llm.domain.chat import Message, Role, Tool, ToolCall, ToolChoice, ToolUse
from unified_llm.domain.errors import InvalidRequest
from unified_llm.wire.openai import parse_chat

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
GET = {
    "type": "function",
    "function": {"name": "get", "description": "Gets.", "parameters": SCHEMA},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": "{}"}}
USER = {"role": "user", "content": "Hello"}


def parse(messages: list[Any] | None = None, **more: Any) -> Any:
    body = {"model": "tiny", "messages": messages or [USER], **more}
    return parse_chat(json.dumps(body).encode()).request


def test_tools_become_the_domain_s() -> None:
    bare = {"type": "function", "function": {"name": "bare", "strict": True}}
    assert parse(tools=[GET, bare], parallel_tool_calls=False).tool_use == ToolUse(
        (
            Tool("get", "Gets.", json.dumps(SCHEMA)),
            Tool("bare", "", '{"type": "object", "properties": {}, "additionalProperties": false}'),
        ),
        is_parallel=False,
    )


@pytest.mark.parametrize(
    ("choice", "expected", "named"),
    [
        (None, ToolChoice.AUTO, None),
        ("auto", ToolChoice.AUTO, None),
        ("none", ToolChoice.NONE, None),
        ("required", ToolChoice.REQUIRED, None),
        ({"type": "function", "function": {"name": "get"}}, ToolChoice.REQUIRED, "get"),
    ],
)
def test_every_choice_is_known(choice: Any, expected: ToolChoice, named: str | None) -> None:
    use = parse(tools=[GET], tool_choice=choice).tool_use
    assert (use.choice, use.named) == (expected, named)


@pytest.mark.parametrize("more", [{}, {"tools": []}, {"tools": None, "tool_choice": "auto"}])
def test_no_tools_are_none(more: dict[str, Any]) -> None:
    assert parse(**more).tool_use is None


def test_calls_and_their_results_are_part_of_the_conversation() -> None:
    request = parse(
        [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
            {"role": "assistant", "content": "It rains.", "tool_calls": None},
        ]
    )
    assert request.messages[1:] == (
        Message(Role.ASSISTANT, "", (ToolCall("call_1", "get", "{}"),)),
        Message(Role.TOOL, "Rain.", tool_call_id="call_1"),
        Message(Role.ASSISTANT, "It rains."),
    )


@pytest.mark.parametrize(
    ("more", "parameter"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [GET], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [GET], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
        ({"messages": [{**USER, "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{**USER, "tool_call_id": "call_1"}]}, "messages[0].tool_call_id"),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(more: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**{"messages": None, **more})
    assert caught.value.parameter == parameter
