"""OpenAI's chat completions, the request: JSON in, `ChatRequest` out.

The shape is the one of the official client (package `openai`, `chat.completions.create`). What this
daemon can not do is refused by name, because an option that is silently ignored changes answers.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, FailFast, Field, Tag
from pydantic_core import PydanticCustomError

from unified_llm.domain.chat import ChatRequest, Message, Role
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.images import Image
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Tokens
from unified_llm.wire.fields import Shape, decode_json, parse_shape
from unified_llm.wire.openai_formats import ResponseFormat
from unified_llm.wire.openai_parts import PartShape, gathered
from unified_llm.wire.openai_sampling import SamplingShape
from unified_llm.wire.openai_tools import ToolCallShape, ToolChoiceShape, ToolShape, tool_use


def _refuse_all_but(*harmless: object) -> BeforeValidator:
    """Null, false, zero and empty are what clients send for options they do not use."""

    def check(value: object) -> None:
        if value and value not in harmless:
            raise PydanticCustomError("unsupported", "is not supported by this daemon")

    return BeforeValidator(check)


class _FirstFaultOnly(FailFast):
    """pydantic's, with the hash that typing wants of what is part of a union."""

    __hash__ = object.__hash__


Unsupported = Annotated[None, _refuse_all_but()]
Ignored = Any


def _stop_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _content_tag(value: object) -> str:
    if value is None:
        return "<nothing>"
    return "<parts>" if isinstance(value, list) else "<text>"


class MessageShape(Shape):
    """One turn. The fields a client echoes from an earlier answer may be there, empty."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        Annotated[str, Tag("<text>")]
        | Annotated[list[PartShape], _FirstFaultOnly(), Tag("<parts>")]
        | Annotated[None, Tag("<nothing>")],
        Discriminator(_content_tag),
    ] = None
    name: str | None = None
    refusal: Unsupported = None
    tool_calls: Annotated[list[ToolCallShape], _FirstFaultOnly()] | None = None
    tool_call_id: str | None = None
    function_call: Unsupported = None
    audio: Unsupported = None
    annotations: Unsupported = None
    # Came with an earlier answer; what was thought is no part of the conversation.
    reasoning_content: Ignored = None

    def message(self, index: int) -> Message:
        """The domain's word for it. Raises InvalidRequest."""
        self._check(f"messages[{index}]")
        text, images = self._said(f"messages[{index}].content")
        if images and self.role != "user":
            raise InvalidRequest(
                f"messages[{index}] shows an image; only the user does.",
                parameter=f"messages[{index}].content",
            )
        # `developer` is OpenAI's newer word for the role that GGUF templates call `system`.
        role = Role.SYSTEM if self.role == "developer" else Role(self.role)
        calls = tuple(shape.call() for shape in self.tool_calls or ())
        return Message(role, text, calls, self.tool_call_id, images)

    def _said(self, where: str) -> tuple[str, tuple[Image, ...]]:
        if isinstance(self.content, list):
            return gathered(self.content, where)
        return self.content or "", ()

    def _check(self, where: str) -> None:
        if self.tool_calls and self.role != "assistant":
            raise InvalidRequest(
                f"{where} has calls; only the assistant makes them.",
                parameter=f"{where}.tool_calls",
            )
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise InvalidRequest(
                f"{where}: messages of role `tool`, and no others, have a tool_call_id.",
                parameter=f"{where}.tool_call_id",
            )
        if self.content is None and not self.tool_calls:
            raise InvalidRequest(f"{where}.content is missing.", parameter=f"{where}.content")


class StreamOptionsShape(Shape):
    """How a stream is sent. Padding against traffic analysis has no use on a local socket."""

    include_usage: bool | None = None
    include_obfuscation: Ignored = None


class OwnFieldsShape(Shape):
    """What OpenAI has no field for.

    local_only: the request may not leave this machine. continue: another model may go on with the
    answer where the first breaks off.
    """

    local_only: bool | None = None
    may_continue: Annotated[bool | None, Field(alias="continue")] = None


class ChatCompletionShape(SamplingShape):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: Annotated[list[MessageShape], FailFast()]

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: Annotated[Annotated[list[str], _FirstFaultOnly()] | None, BeforeValidator(_stop_list)] = (
        None
    )
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptionsShape | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    response_format: ResponseFormat | None = None
    x_unified_llm: OwnFieldsShape | None = None
    tools: Annotated[list[ToolShape], _FirstFaultOnly()] | None = None
    tool_choice: ToolChoiceShape | None = None
    parallel_tool_calls: bool | None = None

    # Change nothing about an answer here: labels, and hints to OpenAI's own machinery.
    metadata: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None
    safety_identifier: Ignored = None
    service_tier: Ignored = None
    user: Ignored = None

    audio: Unsupported = None
    function_call: Annotated[None, _refuse_all_but("none", "auto")] = None
    functions: Unsupported = None
    modalities: Annotated[None, _refuse_all_but(["text"])] = None
    moderation: Unsupported = None
    prediction: Unsupported = None
    reasoning_effort: Annotated[None, _refuse_all_but("none")] = None
    store: Unsupported = None
    verbosity: Annotated[None, _refuse_all_but("medium")] = None
    web_search_options: Unsupported = None

    def asked_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell with each; None if no chances are wanted."""
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest(
                f"top_logprobs is {self.top_logprobs} and logprobs is not true.",
                hint="Send logprobs true, or leave top_logprobs out.",
                parameter="top_logprobs",
            )
        return (self.top_logprobs or 0) if self.logprobs else None

    def limit(self) -> Tokens | None:
        """Most tokens to generate, whichever of its two names the client used."""
        old, new = self.max_tokens, self.max_completion_tokens
        if old is not None and new is not None and old != new:
            raise InvalidRequest(
                f"max_tokens is {old} and max_completion_tokens is {new}.",
                hint="They mean the same; send one.",
                parameter="max_completion_tokens",
            )
        given = old if new is None else new
        return None if given is None else Tokens(given)


@dataclass(frozen=True, slots=True)
class AskedChat:
    """A request, and how its answer shall be sent.

    wants_usage: a stream ends with one more chunk that holds the token counts.
    """

    request: ChatRequest
    is_stream: bool
    wants_usage: bool


def parse_chat(raw: bytes) -> AskedChat:
    """The chat asked for by a request's body. Raises InvalidRequest."""
    shape = parse_shape(ChatCompletionShape, decode_json(raw))
    own = shape.x_unified_llm or OwnFieldsShape()
    request = ChatRequest(
        model=ModelId(shape.model),
        messages=tuple(each.message(index) for index, each in enumerate(shape.messages)),
        max_tokens=shape.limit(),
        stop=tuple(shape.stop or ()),
        sampling=shape.sampling(),
        top_logprobs=shape.asked_logprobs(),
        tool_use=tool_use(shape.tools, shape.tool_choice, shape.parallel_tool_calls),
        answer=shape.response_format.answer() if shape.response_format else None,
        local_only=bool(own.local_only),
        may_continue=own.may_continue,
        choices=1 if shape.n is None else shape.n,
    )
    options = shape.stream_options
    return AskedChat(request, bool(shape.stream), bool(options and options.include_usage))
