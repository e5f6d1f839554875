"""OpenAI's Responses API as a client speaks it.

Shapes: package `openai`, `types.responses`, `response_create_params` and `response_stream_event`.
Only the streamed form is used, as with chat completions. Nothing is kept by the provider for later:
each request tells the whole conversation.
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
    JsonAnswer,
    Message,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolChoice,
    ToolUse,
    Usage,
)
from unified_llm.domain.errors import ProviderFailed, UnifiedLlmError
from unified_llm.domain.images import Image
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Tokens
from unified_llm.providers.api import AnswerReader, OfferedModel, Outgoing
from unified_llm.providers.chat_completions import ChatCompletions
from unified_llm.providers.decoding import believed, decode, embed
from unified_llm.providers.faults import Said, clean, error_of_event
from unified_llm.providers.features import set_sampling
from unified_llm.providers.framing import SseFramer

_encode: Final = msgspec.json.Encoder().encode
_CUT_SHORT: Final = {
    "max_output_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class Responses:
    """The Api of OpenAI's responses. Keys and models are told as with chat completions.

    with_summary: ask for a summary of what the model thinks, which those that do not think refuse.
    """

    models_path = ChatCompletions.models_path

    def __init__(self, *, with_summary: bool = False) -> None:
        self._with_summary = with_summary

    def headers(self, key: Secret | None) -> Mapping[str, str]:
        """As in Api."""
        return ChatCompletions().headers(key)

    def render_chat(self, request: ChatRequest, name: str) -> Outgoing:
        """As in Api."""
        body: dict[str, object] = {
            "model": name,
            "input": [item for message in request.messages for item in _items(message)],
            "stream": True,
            "store": False,
            **set_sampling(request.sampling),
        }
        if request.max_tokens is not None:
            body["max_output_tokens"] = request.max_tokens
        if self._with_summary:
            body["reasoning"] = {"summary": "auto"}
        if request.tool_use is not None:
            body |= _tools(request.tool_use)
        if request.answer is not None:
            body["text"] = {"format": _format(request.answer)}
        return Outgoing("responses", _encode(body))

    def open_reader(self, choices: int) -> AnswerReader:
        """As in Api. There is one choice: servers of this kind are not asked for more."""
        return ResponseReader()

    def parse_models(self, body: bytes) -> tuple[OfferedModel, ...]:
        """As in Api."""
        return ChatCompletions().parse_models(body)


def _items(message: Message) -> Iterator[dict[str, object]]:
    """What one message is there: words, calls and what came of them are items of their own."""
    if message.tool_call_id is not None:
        call = message.tool_call_id
        yield {"type": "function_call_output", "call_id": call, "output": message.content}
    elif message.images:
        yield {"role": message.role.value, "content": [_part(part) for part in message.parts()]}
    elif message.content or not message.tool_calls:
        yield {"role": message.role.value, "content": message.content}
    for each in message.tool_calls:
        yield {
            "type": "function_call",
            "call_id": each.id,
            "name": each.name,
            "arguments": each.arguments,
        }


def _part(part: str | Image) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    detail = "auto" if part.detail is None else part.detail.value
    return {"type": "input_image", "image_url": part.data_url, "detail": detail}


def _tools(use: ToolUse) -> dict[str, object]:
    told: dict[str, object] = {
        "tools": [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": embed(tool.parameters, f"tools[{index}].parameters"),
                # Unlike chat completions, this API takes true for granted, and rewrites schemas.
                "strict": False,
            }
            for index, tool in enumerate(use.tools)
        ],
    }
    if use.named is not None:
        told["tool_choice"] = {"type": "function", "name": use.named}
    elif use.choice is not ToolChoice.AUTO:
        told["tool_choice"] = use.choice.value
    if not use.is_parallel:
        told["parallel_tool_calls"] = False
    return told


def _format(answer: JsonAnswer) -> dict[str, object]:
    if answer.schema is None:
        return {"type": "json_object"}
    schema = embed(answer.schema, "response_format")
    return {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}


class _Head(msgspec.Struct):
    type: str


class _Delta(msgspec.Struct):
    delta: str
    output_index: int = 0


class _Item(msgspec.Struct):
    type: str
    call_id: str = ""
    name: str = ""
    arguments: str = ""


class _ItemEvent(msgspec.Struct):
    item: _Item
    output_index: int


class _SummaryPart(msgspec.Struct):
    summary_index: int


class _KeptFor(msgspec.Struct):
    ttl_12h_tokens: int = 0


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_tokens_details: _KeptFor | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Used(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    def usage(self) -> Usage | None:
        given = self.input_tokens_details or _InputDetails()
        kept = given.cache_write_tokens_details or _KeptFor()
        thought = (self.output_tokens_details or _OutputDetails()).reasoning_tokens
        told = Usage(
            prompt_tokens=Tokens(self.input_tokens),
            completion_tokens=Tokens(self.output_tokens),
            cached_tokens=Tokens(given.cached_tokens or 0),
            cache_write_tokens=Tokens(given.cache_write_tokens or 0),
            reasoning_tokens=None if thought is None else Tokens(thought),
            long_cache_write_tokens=Tokens(kept.ttl_12h_tokens),
        )
        return believed(told)


class _Fault(msgspec.Struct):
    code: str | None = None
    message: str = ""


class _CutShort(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    usage: _Used | None = None
    error: _Fault | None = None
    incomplete_details: _CutShort | None = None


class _End(msgspec.Struct):
    response: _Response


@dataclass(slots=True)
class _Call:
    number: int
    has_arguments: bool = False


@dataclass(slots=True)
class ResponseReader:
    """Reads one streamed response.

    Rule 1: it is whole when `response.completed` or `response.incomplete` has come, and not before.
    Rule 2: a piece is taken once: what repeats pieces that have come (`….done`) is read past.
    """

    is_done: bool = False
    _events: SseFramer = field(default_factory=SseFramer)
    _calls: dict[int, _Call] = field(default_factory=dict)

    def feed(self, data: bytes) -> Iterator[ChatEvent]:
        """As in AnswerReader."""
        for event in self._events.feed(data):
            if self.is_done:
                return
            yield from self._read(decode(event.data, _Head).type, event.data)

    def _read(self, kind: str, data: bytes) -> Iterator[ChatEvent]:
        match kind:
            case "response.output_text.delta":
                yield from _words(TextDelta, data)
            case "response.refusal.delta":
                yield from _words(RefusalDelta, data)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                yield from _words(ReasoningDelta, data)
            case "response.reasoning_summary_part.added":
                # Each part of a summary is a paragraph.
                if decode(data, _SummaryPart).summary_index:
                    yield ReasoningDelta("\n\n")
            case "response.output_item.added" | "response.output_item.done":
                yield from self._item(decode(data, _ItemEvent), is_whole=kind.endswith("done"))
            case "response.function_call_arguments.delta":
                yield from self._arguments(decode(data, _Delta))
            case _:
                yield from self._end(kind, data)

    def _item(self, event: _ItemEvent, *, is_whole: bool) -> Iterator[ChatEvent]:
        item = event.item
        if item.type != "function_call":
            return
        call = self._calls.get(event.output_index)
        if call is None:
            if not item.call_id or not item.name:
                raise ProviderFailed("The provider began a tool call without its id or name.")
            call = self._calls[event.output_index] = _Call(len(self._calls))
            yield ToolCallDelta(call.number, item.call_id, item.name)
        if is_whole and not call.has_arguments:
            # No piece of them has come: some servers send them whole.
            call.has_arguments = True
            yield ToolCallDelta(call.number, arguments=item.arguments or "{}")

    def _arguments(self, piece: _Delta) -> Iterator[ChatEvent]:
        call = self._calls.get(piece.output_index)
        if call is None:
            raise ProviderFailed("The provider sent arguments of a call that never began.")
        if piece.delta:
            call.has_arguments = True
            yield ToolCallDelta(call.number, arguments=piece.delta)

    def _end(self, kind: str, data: bytes) -> Iterator[ChatEvent]:
        """What ends the answer; other events tell nothing that has not come in pieces."""
        match kind:
            case "response.completed":
                reason = FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
                yield self._finish(decode(data, _End).response, reason)
            case "response.incomplete":
                response = decode(data, _End).response
                yield self._finish(response, _cut_short(response))
            case "response.failed":
                raise _fault_of(decode(data, _End).response.error)
            case "error":
                raise _fault_of(decode(data, _Fault))

    def _finish(self, response: _Response, reason: FinishReason) -> Finished:
        self.is_done = True
        return Finished(reason, None if response.usage is None else response.usage.usage())


def _words(
    event: type[TextDelta] | type[RefusalDelta] | type[ReasoningDelta], data: bytes
) -> Iterator[ChatEvent]:
    if text := decode(data, _Delta).delta:
        yield event(text)


def _cut_short(response: _Response) -> FinishReason:
    word = (response.incomplete_details or _CutShort()).reason or ""
    found = _CUT_SHORT.get(word)
    if found is None:
        raise ProviderFailed(f"The provider ended its answer with {word[:40]!r}, which is unknown.")
    return found


def _fault_of(fault: _Fault | None) -> UnifiedLlmError:
    fault = fault or _Fault()
    words = () if fault.code is None else (fault.code,)
    return error_of_event(Said(words, clean(fault.message)))
