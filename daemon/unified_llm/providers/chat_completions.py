"""OpenAI's chat completions as a client speaks them, with the differences between servers named.

Shapes: package `openai`, `types.chat`; DeepSeek's "Create Chat Completion"; vLLM, SGLang, TGI and
llama-server as their servers send. Only the streamed form is used: it can be watched for progress,
and an answer that is cut is seen to be cut.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnded,
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
from unified_llm.domain.errors import ProviderFailed, ProviderOverloaded
from unified_llm.domain.images import Image
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Tokens
from unified_llm.providers.api import MAX_MODELS, AnswerReader, OfferedModel, Outgoing
from unified_llm.providers.calls import CallNumbers
from unified_llm.providers.decoding import believed, decode, embed
from unified_llm.providers.faults import error_of_event, said_of
from unified_llm.providers.features import Feature, ignored, set_sampling
from unified_llm.providers.framing import SseEvent, SseFramer

_encode: Final = msgspec.json.Encoder().encode
_DONE: Final = b"[DONE]"

_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "eos_token": FinishReason.STOP,  # TGI
    "stop_sequence": FinishReason.STOP,  # TGI
}
_NO_CAPACITY: Final = "insufficient_system_resource"  # DeepSeek


class ChatCompletions:
    """The Api of OpenAI's chat completions.

    limit_field: what the server calls `max_tokens`.
    """

    models_path = "models"

    def __init__(self, *, limit_field: str = "max_tokens") -> None:
        self._limit_field = limit_field

    def headers(self, key: Secret | None) -> Mapping[str, str]:
        """As in Api."""
        return {} if key is None else {"authorization": f"Bearer {key.reveal()}"}

    def render_chat(self, request: ChatRequest, name: str) -> Outgoing:
        """As in Api."""
        body: dict[str, object] = {
            "model": name,
            "messages": [_message(message) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **set_sampling(request.sampling),
        }
        if request.choices != 1:
            body["n"] = request.choices
        if request.max_tokens is not None:
            body[self._limit_field] = request.max_tokens
        if request.stop:
            body["stop"] = request.stop
        if request.tool_use is not None:
            body |= _tools(request.tool_use)
        if request.answer is not None:
            body["response_format"] = _response_format(request.answer)
        return Outgoing("chat/completions", _encode(body))

    def open_reader(self, choices: int) -> AnswerReader:
        """As in Api."""
        return ChatReader(choices)

    def parse_models(self, body: bytes) -> tuple[OfferedModel, ...]:
        """As in Api. vLLM and SGLang tell the context as `max_model_len`."""
        listed = decode(body, _ModelList).data[:MAX_MODELS]
        return tuple(
            OfferedModel(model.id, None if model.max_model_len is None else _tokens(model))
            for model in listed
        )


def _message(message: Message) -> dict[str, object]:
    told: dict[str, object] = {"role": message.role.value, "content": message.content}
    if message.images:
        told["content"] = [_part(part) for part in message.parts()]
    if message.tool_calls:
        told["content"] = message.content or None
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    return told


def _part(part: str | Image) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    told = {"url": part.data_url}
    if part.detail is not None:
        told["detail"] = part.detail.value
    return {"type": "image_url", "image_url": told}


def _tools(use: ToolUse) -> dict[str, object]:
    told: dict[str, object] = {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": embed(tool.parameters, f"tools[{index}].parameters"),
                },
            }
            for index, tool in enumerate(use.tools)
        ],
        "tool_choice": (
            use.choice.value
            if use.named is None
            else {"type": "function", "function": {"name": use.named}}
        ),
    }
    if not use.is_parallel:
        told["parallel_tool_calls"] = False
    if use.choice is ToolChoice.AUTO:
        del told["tool_choice"]
    return told


def _response_format(answer: JsonAnswer) -> dict[str, object]:
    if answer.schema is None:
        return {"type": "json_object"}
    schema = embed(answer.schema, "response_format")
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


class _Model(msgspec.Struct):
    id: str
    max_model_len: int | None = None


class _ModelList(msgspec.Struct):
    data: list[_Model]


def _tokens(model: _Model) -> Tokens | None:
    return Tokens(model.max_model_len) if model.max_model_len else None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None  # DeepSeek, llama-server, vLLM, unified-llm
    reasoning: str | None = None  # newer vLLM, OpenRouter
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek

    def usage(self) -> Usage | None:
        prompt = self.prompt_tokens_details or _PromptDetails()
        completion = self.completion_tokens_details or _CompletionDetails()
        cached = prompt.cached_tokens or self.prompt_cache_hit_tokens or 0
        reasoning = completion.reasoning_tokens
        told = Usage(
            prompt_tokens=Tokens(self.prompt_tokens),
            completion_tokens=Tokens(self.completion_tokens),
            cached_tokens=Tokens(cached),
            cache_write_tokens=Tokens(prompt.cache_write_tokens or 0),
            reasoning_tokens=None if reasoning is None else Tokens(reasoning),
        )
        return believed(told)


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


@dataclass(slots=True)
class ChatReader:
    """Reads one streamed answer of so many choices.

    Rule 1: it is whole when a finish reason of each choice and then `[DONE]` have come, and not
    before.
    Rule 2: nothing is said of a choice after its finish reason.
    """

    count: int = 1
    is_done: bool = False
    _events: SseFramer = field(default_factory=SseFramer)
    _choices: dict[int, "_ChoiceReader"] = field(default_factory=dict)
    _ended: int = 0
    _end: ChoiceEnded | None = None
    _usage: Usage | None = None

    def feed(self, data: bytes) -> Iterator[ChatEvent]:
        """As in AnswerReader."""
        for event in self._events.feed(data):
            if self.is_done:
                return
            yield from self._read(event)

    def _read(self, event: SseEvent) -> Iterator[ChatEvent]:
        if event.data == _DONE:
            yield self._finish()
            return
        chunk = decode(event.data, _Chunk)
        if chunk.error is not None:
            raise error_of_event(said_of({"error": chunk.error}))
        if chunk.usage is not None:
            self._usage = chunk.usage.usage()
        for choice in chunk.choices[: self.count]:
            yield from self._read_choice(choice)

    def _read_choice(self, choice: _Choice) -> Iterator[ChatEvent]:
        index = self._index_of(choice)
        reader = self._choices.setdefault(index, _ChoiceReader(index))
        has_ended = reader.reason is not None
        yield from reader.read(choice)
        if reader.reason is None or has_ended:
            return
        self._ended += 1
        end = ChoiceEnded(index, reader.reason)
        if self._ended < self.count:
            yield end
        else:
            self._end = end

    def _index_of(self, choice: _Choice) -> int:
        if self.count == 1:
            return 0  # more was not asked for, and servers differ in what they count
        if choice.index is None or not 0 <= choice.index < self.count:
            raise ignored(Feature.CHOICES, f"it sent choice {choice.index} of {self.count}")
        return choice.index

    def _finish(self) -> Finished:
        if self._end is None:
            self._ensure_choices_begun()
            which = "" if self.count == 1 else f" of {self.count - self._ended} of its choices"
            raise ProviderFailed(f"The provider ended its answer without a finish reason{which}.")
        self.is_done = True
        return Finished(self._end.reason, self._usage, choice=self._end.choice)

    def _ensure_choices_begun(self) -> None:
        # Fewer than asked for, but whole ones: the server knows only one, or has a limit.
        begun = len(self._choices)
        if begun < self.count and 0 < begun == self._ended:
            raise ignored(Feature.CHOICES, f"it sent {begun} of {self.count} choices")


@dataclass(slots=True)
class _ChoiceReader:
    """Reads one of the choices. reason: of its end; None until it has come."""

    index: int
    reason: FinishReason | None = None
    _calls: CallNumbers = field(default_factory=CallNumbers)

    def read(self, choice: _Choice) -> Iterator[ChatEvent]:
        """The pieces of it, and its finish reason."""
        if choice.delta is not None:
            for event in self._pieces(choice.delta):
                if self.reason is not None:
                    raise ProviderFailed("The provider went on after the end of its answer.")
                yield event
        if choice.finish_reason:
            self.reason = self.reason or _reason(choice.finish_reason)

    def _pieces(self, delta: _Delta) -> Iterator[ChatEvent]:
        if thought := delta.reasoning_content or delta.reasoning:
            yield ReasoningDelta(thought, choice=self.index)
        if delta.content:
            yield TextDelta(delta.content, choice=self.index)
        if delta.refusal:
            yield RefusalDelta(delta.refusal, choice=self.index)
        for call in delta.tool_calls or ():
            yield from self._call(call)

    def _call(self, call: _Call) -> Iterator[ChatEvent]:
        function = call.function or _Function()
        arguments = function.arguments or ""
        begun = self._calls.begin(call.index, call.id, function.name)
        if begun is not None:
            yield ToolCallDelta(begun.index, begun.id, begun.name, arguments, choice=self.index)
        elif arguments:
            number = self._calls.number_of(call.index)
            yield ToolCallDelta(number, arguments=arguments, choice=self.index)


def _reason(word: str) -> FinishReason:
    if word == _NO_CAPACITY:
        raise ProviderOverloaded("The provider stopped its answer for want of capacity.")
    found = _REASONS.get(word)
    if found is None:
        raise ProviderFailed(f"The provider ended its answer with {word[:40]!r}, which is unknown.")
    return found
