"""Limits on tools, and on calls of earlier turns (CVE-2025-48944: a bad schema of a tool)."""

import json

from unified_llm.domain.chat import Message, ToolUse, prompt_bytes
from unified_llm.domain.errors import InvalidRequest, TooLarge
from unified_llm.guard.sane_text import ensure_sane_text

MAX_TOOLS = 128
MAX_TOOL_BYTES = 256 * 1024
MAX_CALLS = 128
MAX_CALL_ID_CHARACTERS = 256
MAX_ARGUMENT_DEPTH = 32


def ensure_sane_calls(message: Message, where: str) -> None:
    """Raise InvalidRequest or TooLarge unless calls and their ids in `message` are sane."""
    if len(message.tool_calls) > MAX_CALLS:
        raise TooLarge(f"{where} has {len(message.tool_calls)} calls; the most is {MAX_CALLS}.")
    numbers = [call.id for call in message.tool_calls]
    if message.tool_call_id is not None:
        numbers.append(message.tool_call_id)
    for number in numbers:
        if not 1 <= len(number) <= MAX_CALL_ID_CHARACTERS:
            raise InvalidRequest(
                f"{where}: the id of a call has {len(number)} characters; allowed are 1 to "
                f"{MAX_CALL_ID_CHARACTERS}.",
                parameter=where,
            )
        ensure_sane_text(number, where)
    for index, call in enumerate(message.tool_calls):
        place = f"{where}.tool_calls[{index}].function.arguments"
        ensure_sane_text(call.arguments, place)
        _check_object(call.arguments, place)


def ensure_sane_tools(use: ToolUse) -> None:
    """Raise InvalidRequest or TooLarge unless the tools of a request are sane."""
    if not 1 <= len(use.tools) <= MAX_TOOLS:
        raise InvalidRequest(
            f"There are {len(use.tools)} tools; allowed are 1 to {MAX_TOOLS}.", parameter="tools"
        )
    names = [tool.name for tool in use.tools]
    for index, tool in enumerate(use.tools):
        where = f"tools[{index}].function"
        if tool.name in names[:index]:
            raise InvalidRequest(f"Two tools are called {tool.name}.", parameter=f"{where}.name")
        ensure_sane_text(tool.description, f"{where}.description")
        ensure_sane_text(tool.parameters, f"{where}.parameters")
        _check_object(tool.parameters, f"{where}.parameters")
    size = prompt_bytes((), use.tools)
    if size > MAX_TOOL_BYTES:
        raise TooLarge(
            f"The tools have {size} bytes; the most is {MAX_TOOL_BYTES}.",
            hint="Send fewer tools, or describe them in fewer words.",
        )
    if use.named is not None and use.named not in names:
        raise InvalidRequest(
            f"tool_choice names {use.named}, which is none of the tools.", parameter="tool_choice"
        )


def _check_object(text: str, parameter: str) -> None:
    try:
        value = json.loads(text)
        is_sane = isinstance(value, dict) and _depth(value) <= MAX_ARGUMENT_DEPTH
    except (ValueError, RecursionError):
        is_sane = False
    if not is_sane:
        raise InvalidRequest(
            f"{parameter} is no JSON object of at most {MAX_ARGUMENT_DEPTH} levels.",
            parameter=parameter,
        )


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0
