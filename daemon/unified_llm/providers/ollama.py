"""Ollama's own API: `/api/chat` as lines of JSON, and `/api/tags`.

Shapes: package `ollama`, `ChatRequest`, `ChatResponse` and `ListResponse`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    Message,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolUse,
    Usage,
)
from unified_llm.domain.errors import InvalidRequest, ProviderFailed
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Tokens
from unified_llm.providers.api import MAX_MODELS, AnswerReader, OfferedModel, Outgoing
from unified_llm.providers.calls import CallNumbers
from unified_llm.providers.decoding import believed, decode, embed
from unified_llm.providers.faults import Said, clean, error_of_event
from unified_llm.providers.framing import LineFramer

_encode: Final = msgspec.json.Encoder().encode
_OPTIONS: Final = (
    "temperature", "top_p", "top_k", "repeat_penalty", "frequency_penalty",
    "presence_penalty", "seed",
)  # fmt: skip
_REASONS: Final = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class OllamaChat:
    """The Api of an Ollama server."""

    models_path = "api/tags"

    def headers(self, key: Secret | None) -> Mapping[str, str]:
        """As in Api. Ollama itself knows no keys; a proxy in front of it may."""
        return {} if key is None else {"authorization": f"Bearer {key.reveal()}"}

    def render_chat(self, request: ChatRequest, name: str) -> Outgoing:
        """As in Api."""
        body: dict[str, object] = {
            "model": name,
            "messages": _messages(request.turns),
            "stream": True,
        }
        if options := _options(request):
            body["options"] = options
        if request.tool_use is not None:
            body["tools"] = _tools(request.tool_use)
        if request.answer is not None:
            schema = request.answer.schema
            body["format"] = "json" if schema is None else embed(schema, "response_format")
        return Outgoing("api/chat", _encode(body))

    def open_reader(self, choices: int) -> AnswerReader:
        """As in Api. There is one choice: servers of this kind are not asked for more."""
        return ChatLines()

    def parse_models(self, body: bytes) -> tuple[OfferedModel, ...]:
        """As in Api."""
        listed = decode(body, _ModelList).models[:MAX_MODELS]
        return tuple(OfferedModel(model.model) for model in listed)


def _options(request: ChatRequest) -> dict[str, object]:
    found: dict[str, object] = {
        name: value for name in _OPTIONS if (value := getattr(request.sampling, name)) is not None
    }
    if request.max_tokens is not None:
        found["num_predict"] = request.max_tokens
    if request.stop:
        found["stop"] = request.stop
    return found


def _messages(messages: tuple[Message, ...]) -> list[dict[str, object]]:
    """Ollama knows no ids of calls: an answer to one names the tool."""
    told: list[dict[str, object]] = []
    names: dict[str, str] = {}
    for at, message in enumerate(messages):
        names |= {call.id: call.name for call in message.tool_calls}
        each: dict[str, object] = {"role": message.role.value, "content": message.content}
        if message.images:
            each["images"] = [image.base64 for image in message.images]
        if message.tool_calls:
            where = f"messages[{at}].tool_calls"
            each["tool_calls"] = [
                {
                    "function": {
                        "name": call.name,
                        "arguments": embed(call.arguments or "{}", where),
                    }
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            each["tool_name"] = _named(names, message.tool_call_id, at)
        told.append(each)
    return told


def _named(names: Mapping[str, str], call: str, at: int) -> str:
    if call not in names:
        raise InvalidRequest(
            f"messages[{at}] answers the call {call[:40]!r}, which no message before it makes.",
            parameter=f"messages[{at}].tool_call_id",
        )
    return names[call]


def _tools(use: ToolUse) -> list[dict[str, object]]:
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": embed(tool.parameters, f"tools[{index}].parameters"),
            },
        }
        for index, tool in enumerate(use.tools)
    ]


class _Model(msgspec.Struct):
    model: str


class _ModelList(msgspec.Struct):
    models: list[_Model]


class _Function(msgspec.Struct):
    name: str
    arguments: dict[str, msgspec.Raw] = {}


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: str | None = None


@dataclass(slots=True)
class ChatLines:
    """Reads one streamed answer; it is whole when a line with `done` has come."""

    is_done: bool = False
    _lines: LineFramer = field(default_factory=LineFramer)
    _calls: CallNumbers = field(default_factory=CallNumbers)

    def feed(self, data: bytes) -> Iterator[ChatEvent]:
        """As in AnswerReader."""
        for line in self._lines.feed(data):
            if self.is_done:
                return
            if line.strip():
                yield from self._read(decode(line, _Line))

    def _read(self, line: _Line) -> Iterator[ChatEvent]:
        if line.error is not None:
            raise error_of_event(Said((), clean(line.error)))
        if line.message is not None:
            yield from self._pieces(line.message)
        if line.done:
            yield self._finish(line)

    def _pieces(self, message: _Message) -> Iterator[ChatEvent]:
        if message.thinking:
            yield ReasoningDelta(message.thinking)
        if message.content:
            yield TextDelta(message.content)
        for call in message.tool_calls or ():
            # Each comes whole, so each has an index of its own.
            begun = self._calls.begin(self._calls.count, call.id, call.function.name)
            if begun is not None:
                arguments = _encode(call.function.arguments).decode()
                yield ToolCallDelta(begun.index, begun.id, begun.name, arguments)

    def _finish(self, line: _Line) -> Finished:
        word = line.done_reason or "stop"  # older servers do not tell
        reason = _REASONS.get(word)
        if reason is None:
            raise ProviderFailed(
                f"The provider ended its answer with {word[:40]!r}, which is unknown."
            )
        if self._calls.count and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        self.is_done = True
        return Finished(reason, _usage(line))


def _usage(line: _Line) -> Usage | None:
    if line.prompt_eval_count is None or line.eval_count is None:
        return None
    return believed(Usage(Tokens(line.prompt_eval_count), Tokens(line.eval_count)))
