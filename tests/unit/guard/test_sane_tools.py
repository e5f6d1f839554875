"""Tools and earlier calls have limits, each told with its number and place."""

import json

import pytest

from unified_llm.domain.chat import (
    ChatRequest,
    Message,
    Role,
    Tool,
    ToolCall,
    ToolChoice,
    ToolUse,
)
from unified_llm.domain.errors import InvalidRequest, TooLarge
from unified_llm.domain.models import ModelId
from unified_llm.guard.sane_tools import MAX_CALLS, MAX_TOOL_BYTES, MAX_TOOLS
from unified_llm.guard.sanitize import ensure_sane

DEEP = "[" * 32 + "]" * 32


def asked(*messages: Message, use: ToolUse | None = None) -> ChatRequest:
    return ChatRequest(ModelId("tiny"), (Message(Role.USER, "Hello"), *messages), tool_use=use)


def tool(name: str = "get", description: str = "", parameters: str = "{}") -> Tool:
    return Tool(name, description, parameters)


def called(number: str = "call_1", arguments: str = "{}", count: int = 1) -> Message:
    return Message(Role.ASSISTANT, "", (ToolCall(number, "get", arguments),) * count)


def test_what_is_within_the_limits_passes() -> None:
    tools = tuple(tool(f"get_{number}", "x") for number in range(MAX_TOOLS))
    ensure_sane(asked(use=ToolUse(tools, ToolChoice.REQUIRED, "get_3")))
    result = Message(Role.TOOL, "", tool_call_id="call_1")
    ensure_sane(asked(called(arguments='{"a": {"b": [1]}}'), result))


@pytest.mark.parametrize(
    ("use", "parameter"),
    [
        (ToolUse(()), "tools"),
        (ToolUse(tuple(tool(f"a{n}") for n in range(MAX_TOOLS + 1))), "tools"),
        (ToolUse((tool(), tool("put"), tool())), "tools[2].function.name"),
        (ToolUse((tool(), tool("put", "\0"))), "tools[1].function.description"),
        (ToolUse((tool(description="\ud800"),)), "tools[0].function.description"),
        (ToolUse((tool(parameters="[]"),)), "tools[0].function.parameters"),
        (ToolUse((tool(parameters='{"a": ' + DEEP + "}"),)), "tools[0].function.parameters"),
        (ToolUse((tool(parameters="[" * 100_000),)), "tools[0].function.parameters"),
        (ToolUse((tool(),), ToolChoice.REQUIRED, "put"), "tool_choice"),
    ],
)
def test_tools_that_are_not_sane_are_refused_by_their_place(use: ToolUse, parameter: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ensure_sane(asked(use=use))
    assert caught.value.parameter == parameter


def test_tools_have_a_size_together() -> None:
    half = json.dumps({"description": "x" * (MAX_TOOL_BYTES // 2)})
    with pytest.raises(TooLarge, match=str(MAX_TOOL_BYTES)):
        ensure_sane(asked(use=ToolUse((tool(parameters=half), tool("put", parameters=half)))))


@pytest.mark.parametrize(
    "message",
    [
        called(""),
        called("x" * 257),
        called("\ud800"),
        called(arguments="not JSON"),
        called(arguments="[]"),
        called(arguments='{"a": NaN'),
        called(arguments='{"a": ' + DEEP + "}"),
        Message(Role.TOOL, "x", tool_call_id=""),
    ],
)
def test_calls_that_are_not_sane_are_refused(message: Message) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[1\]|half a character"):
        ensure_sane(asked(message))


def test_a_message_has_so_many_calls_at_most() -> None:
    with pytest.raises(TooLarge, match=str(MAX_CALLS)):
        ensure_sane(asked(called(count=MAX_CALLS + 1)))
