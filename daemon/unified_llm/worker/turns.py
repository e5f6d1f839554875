"""A conversation and its tools in the form in which chat templates expect them.

Source: transformers, "Chat templates" and "Tool use"; arguments of calls are objects, not text.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from unified_llm.domain.chat import Message, Tool
from unified_llm.domain.errors import InvalidRequest
from unified_llm.grammar.calls import ID_CHARACTERS
from unified_llm.worker.placeholders import Placeholders

Turn = dict[str, Any]


def turns_of(messages: Sequence[Message], words: Placeholders) -> list[Turn]:
    """One turn for each message. Raises InvalidRequest."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return [_turn(message, names, words) for message in messages]


def _turn(message: Message, names: Mapping[str, str], words: Placeholders) -> Turn:
    said = (words.content(e) if isinstance(e, str) else words.image() for e in message.parts())
    turn: Turn = {"role": message.role.value, "content": "".join(said)}
    if message.tool_calls:
        turn["tool_calls"] = [
            call_of(
                short_id(call.id),
                words.value(call.name),
                words.inside(_arguments(call.arguments)),
            )
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = short_id(message.tool_call_id)
        if message.tool_call_id in names:
            turn["name"] = words.value(names[message.tool_call_id])
    return turn


def call_of(number: str, name: str, arguments: object) -> Turn:
    """A call as templates know it."""
    return {
        "id": number,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def tools_of(tools: Sequence[Tool], words: Placeholders) -> list[Turn]:
    """What templates find as `tools`. Raises InvalidRequest."""
    return [
        tool_of(
            words.value(tool.name),
            words.value(tool.description),
            words.inside(_arguments(tool.parameters)),
        )
        for tool in tools
    ]


def tool_of(name: str, description: str, parameters: object) -> Turn:
    """A tool as templates know it."""
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def short_id(number: str) -> str:
    """An id that every template takes, made of one that a client chose."""
    return blake2b(number.encode(errors="replace")).hexdigest()[:ID_CHARACTERS]


def _arguments(text: str) -> object:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The arguments of a call are not JSON.") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The arguments of a call are no JSON object.")
    return value
