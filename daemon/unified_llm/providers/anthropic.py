"""Anthropic's Messages API: requests out, and its streamed events in.

Shapes: package `anthropic`, `types.message_create_params` and `types.raw_message_stream_event`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    Message,
    ReasoningDelta,
    Role,
    TextDelta,
    ToolCallDelta,
    ToolChoice,
    ToolUse,
    Usage,
)
from unified_llm.domain.errors import InvalidRequest, ProviderFailed
from unified_llm.domain.images import Image
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Tokens
from unified_llm.providers.api import MAX_MODELS, AnswerReader, OfferedModel, Outgoing
from unified_llm.providers.decoding import believed, decode, embed
from unified_llm.providers.faults import error_of_event, said_of
from unified_llm.providers.framing import SseEvent, SseFramer

VERSION: Final = "2023-06-01"
# The API wants a number; a request that needs more says so.
DEFAULT_MAX_TOKENS: Final = 4096

_encode: Final = msgspec.json.Encoder().encode
_CHOICES: Final = {ToolChoice.NONE: "none", ToolChoice.AUTO: "auto", ToolChoice.REQUIRED: "any"}
_REASONS: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}


class Messages:
    """The Api of `api.anthropic.com`."""

    models_path = "models?limit=1000"

    def headers(self, key: Secret | None) -> Mapping[str, str]:
        """As in Api."""
        version = {"anthropic-version": VERSION}
        return version if key is None else {**version, "x-api-key": key.reveal()}

    def render_chat(self, request: ChatRequest, name: str) -> Outgoing:
        """As in Api."""
        system, turns = _split(request.turns)
        body: dict[str, object] = {
            "model": name,
            "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
            "messages": _turns(turns),
            "stream": True,
        }
        if system:
            body["system"] = system
        if request.stop:
            body["stop_sequences"] = request.stop
        if request.tool_use is not None:
            body |= _tools(request.tool_use)
        if request.answer is not None and request.answer.schema is not None:
            schema = embed(request.answer.schema, "response_format")
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return Outgoing("messages", _encode(body))

    def open_reader(self, choices: int) -> AnswerReader:
        """As in Api. There is one choice: servers of this kind are not asked for more."""
        return MessageReader()

    def parse_models(self, body: bytes) -> tuple[OfferedModel, ...]:
        """As in Api."""
        return tuple(
            OfferedModel(model.id, _tokens(model.max_input_tokens))
            for model in decode(body, _ModelList).data[:MAX_MODELS]
        )


def _split(messages: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]]:
    """The system's words before the first turn, and the turns."""
    count = next(
        (at for at, message in enumerate(messages) if message.role is not Role.SYSTEM),
        len(messages),
    )
    for at, message in enumerate(messages[count:], count):
        if message.role is Role.SYSTEM:
            raise InvalidRequest(
                f"messages[{at}] is of the system, after the conversation has begun.",
                hint="This provider hears the system only before the first turn.",
                parameter=f"messages[{at}].role",
            )
    return "\n\n".join(message.content for message in messages[:count]), messages[count:]


def _turns(messages: tuple[Message, ...]) -> list[dict[str, object]]:
    """Turns that alternate: what tools answered is part of the user's next turn."""
    turns: list[dict[str, object]] = []
    blocks: list[object] = []
    for at, message in enumerate(messages):
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        if not turns or turns[-1]["role"] != role:
            blocks = []
            turns.append({"role": role, "content": blocks})
        blocks.extend(_blocks(message, at))
    return turns


def _blocks(message: Message, at: int) -> Iterator[dict[str, object]]:
    if message.tool_call_id is not None:
        yield {
            "type": "tool_result",
            "tool_use_id": message.tool_call_id,
            "content": message.content,
        }
    else:
        yield from map(_part, message.parts())
    for call in message.tool_calls:
        arguments = embed(call.arguments or "{}", f"messages[{at}].tool_calls")
        yield {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _part(part: str | Image) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    source = {"type": "base64", "media_type": part.format.value, "data": part.base64}
    return {"type": "image", "source": source}


def _tools(use: ToolUse) -> dict[str, object]:
    choice: dict[str, object] = {"type": _CHOICES[use.choice]}
    if use.named is not None:
        choice = {"type": "tool", "name": use.named}
    if not use.is_parallel and use.choice is not ToolChoice.NONE:
        choice["disable_parallel_tool_use"] = True
    return {
        "tools": [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": embed(tool.parameters, f"tools[{index}].parameters"),
            }
            for index, tool in enumerate(use.tools)
        ],
        "tool_choice": choice,
    }


class _Model(msgspec.Struct):
    id: str
    max_input_tokens: int | None = None


class _ModelList(msgspec.Struct):
    data: list[_Model]


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _CacheCreation(msgspec.Struct):
    ephemeral_1h_input_tokens: int = 0


class _Used(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Message(msgspec.Struct):
    usage: _Used | None = None


class _Block(msgspec.Struct):
    type: str
    id: str = ""
    name: str = ""
    text: str = ""
    thinking: str = ""


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Used | None = None
    error: Any = None


@dataclass(slots=True)
class _Call:
    number: int
    has_arguments: bool = False


@dataclass(slots=True)
class MessageReader:
    """Reads one streamed message; it is whole when `message_stop` follows a stop reason."""

    is_done: bool = False
    _events: SseFramer = field(default_factory=SseFramer)
    _used: dict[str, int] = field(default_factory=dict)
    _calls: dict[int, _Call] = field(default_factory=dict)
    _reason: FinishReason | None = None

    def feed(self, data: bytes) -> Iterator[ChatEvent]:
        """As in AnswerReader."""
        for event in self._events.feed(data):
            if self.is_done:
                return
            yield from self._read(event)

    def _read(self, raw: SseEvent) -> Iterator[ChatEvent]:
        event = decode(raw.data, _Event)
        match event.type:
            case "content_block_start" if event.content_block is not None:
                yield from self._begin(event.index, event.content_block)
            case "content_block_delta" if event.delta is not None:
                yield from self._go_on(event.index, event.delta)
            case "content_block_stop":
                yield from self._end_block(event.index)
            case "message_stop":
                yield self._finish()
            case "error":
                raise error_of_event(said_of({"error": event.error}))
            case _:  # ping, and what comes later: the API says to read past unknown events
                self._note(event)

    def _note(self, event: _Event) -> None:
        """What `message_start` and `message_delta` tell of the whole message."""
        self._count(event.usage if event.message is None else event.message.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            self._reason = _reason(event.delta.stop_reason)

    def _begin(self, index: int, block: _Block) -> Iterator[ChatEvent]:
        if block.type == "tool_use":
            if not block.id or not block.name:
                raise ProviderFailed("The provider began a tool call without its id or name.")
            call = self._calls[index] = _Call(len(self._calls))
            yield ToolCallDelta(call.number, block.id, block.name)
        if block.text:
            yield TextDelta(block.text)
        if block.thinking:
            yield ReasoningDelta(block.thinking)

    def _go_on(self, index: int, delta: _Delta) -> Iterator[ChatEvent]:
        if delta.text:
            yield TextDelta(delta.text)
        if delta.thinking:
            yield ReasoningDelta(delta.thinking)
        if delta.partial_json:
            call = self._calls.get(index)
            if call is None:
                raise ProviderFailed("The provider sent arguments of a call that never began.")
            call.has_arguments = True
            yield ToolCallDelta(call.number, arguments=delta.partial_json)

    def _end_block(self, index: int) -> Iterator[ChatEvent]:
        call = self._calls.get(index)
        if call is not None and not call.has_arguments:
            # No arguments are sent as nothing at all; in a call they are an empty object.
            yield ToolCallDelta(call.number, arguments="{}")

    def _count(self, used: _Used | None) -> None:
        """Counts are cumulative: a later one replaces an earlier."""
        if used is None:
            return
        thought, kept = used.output_tokens_details, used.cache_creation
        counts = {
            "input": used.input_tokens,
            "output": used.output_tokens,
            "written": used.cache_creation_input_tokens,
            "written for long": None if kept is None else kept.ephemeral_1h_input_tokens,
            "read": used.cache_read_input_tokens,
            "thought": None if thought is None else thought.thinking_tokens,
        }
        self._used |= {name: count for name, count in counts.items() if count is not None}

    def _finish(self) -> Finished:
        if self._reason is None:
            raise ProviderFailed("The provider ended its answer without a stop reason.")
        self.is_done = True
        return Finished(self._reason, self._usage())

    def _usage(self) -> Usage | None:
        """`input_tokens` leaves out what was read from the cache or written into it."""
        used = self._used
        if "input" not in used or "output" not in used:
            return None
        read, written = used.get("read", 0), used.get("written", 0)
        told = Usage(
            prompt_tokens=Tokens(used["input"] + read + written),
            completion_tokens=Tokens(used["output"]),
            cached_tokens=Tokens(read),
            cache_write_tokens=Tokens(written),
            reasoning_tokens=_tokens(used.get("thought")),
            long_cache_write_tokens=Tokens(used.get("written for long", 0)),
        )
        return believed(told)


def _tokens(count: int | None) -> Tokens | None:
    return None if count is None else Tokens(count)


def _reason(word: str) -> FinishReason:
    found = _REASONS.get(word)
    if found is None:
        raise ProviderFailed(f"The provider ended its answer with {word[:40]!r}, which is unknown.")
    return found
