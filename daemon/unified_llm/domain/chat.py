"""A chat completion: what is asked, and the events that answer it.

A stream of ChatEvent is: any number of deltas, then exactly one Finished. A stream that cannot end
that way raises a UnifiedLlmError instead; there is no third ending. Where several choices were
asked for, their deltas come in any order, and all of them but the last to end are ended by a
ChoiceEnded of their own, after which nothing more of them comes. Where a router has
another target go on, Continued stands between the deltas of the two.

JSON that people write freely (a schema, the arguments of a call) travels as text: it is checked
where it is understood, and no dicts travel inside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from unified_llm.domain.images import Image
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money
from unified_llm.domain.routing import Attempt, CheaperTarget
from unified_llm.domain.units import Seconds, Tokens

MAX_CHOICES: Final = 4
"""Of one request: each takes a slot of its model, and there are few."""


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"  # what a called tool has answered


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What the model wants done.

    id: names the call in the answer to it. arguments: a JSON object, as text.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `content` is plain text, whatever markup it seems to hold.

    tool_calls: only of the assistant. tool_call_id: only of a tool, which answers that call.
    images: only of the user, by their places in the content.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    images: tuple[Image, ...] = ()

    def parts(self) -> Iterator[str | Image]:
        """Texts and images in the order in which they are said; no text is empty."""
        begin = 0
        for image in self.images:
            if text := self.content[begin : image.place]:
                yield text
            yield image
            begin = image.place
        if text := self.content[begin:]:
            yield text


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call.

    name: 1 to 64 of A-Z a-z 0-9 _ -. parameters: a JSON Schema of an object, as text.
    """

    name: str
    description: str
    parameters: str


def prompt_bytes(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
    """What people wrote of a prompt, in UTF-8."""
    size = sum(len(message.content.encode()) for message in messages)
    calls = (call for message in messages for call in message.tool_calls)
    size += sum(len(call.name) + len(call.arguments.encode()) for call in calls)
    return size + sum(
        len(tool.name) + len(tool.description.encode()) + len(tool.parameters.encode())
        for tool in tools
    )


class ToolChoice(StrEnum):
    """Whether the model has to call a tool."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request, and how they may be used.

    named: the one tool that must be called; `choice` is REQUIRED then.
    is_parallel: whether one answer may hold several calls.
    """

    tools: tuple[Tool, ...]
    choice: ToolChoice = ToolChoice.AUTO
    named: str | None = None
    is_parallel: bool = True


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """The answer shall be one JSON value.

    schema: a JSON Schema that it has to match, as text; None for any object.
    """

    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; ranges and defaults are in domain.sampling.

    None takes the default. seed: None draws one. logit_bias: what is added to the logits of these
    tokens. ignore_eos: the model cannot end the answer by itself.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be continued.

    max_tokens: most tokens to generate; None for what is left of the context.
    stop: up to 4 texts of 1 to 64 characters that end the answer and are not part of it.
    tool_use: None if there are no tools. answer: None for text as it comes.
    top_logprobs: tell of each token how likely it was, and so many (0 to 20) of the likeliest.
    local_only: it may not leave this machine, whatever the model stands for.
    choices: how many answers are wanted, 1 to MAX_CHOICES; each is as if it were asked for alone.
    adapter: which of the model's adapters it is answered with; None for none. A client names it as
        part of the model, and the route takes it apart.
    may_continue: another model may go on with the answer where the first breaks off; None leaves it
    to the route. begun: the answer begins with this text, and only what follows it is asked for.
    """

    model: ModelId
    messages: tuple[Message, ...]
    max_tokens: Tokens | None = None
    stop: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    tool_use: ToolUse | None = None
    answer: JsonAnswer | None = None
    top_logprobs: int | None = None
    local_only: bool = False
    choices: int = 1
    adapter: str | None = None
    may_continue: bool | None = None
    begun: str = ""

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages, and last what the answer begins with, for those who go on with that."""
        begun = (Message(Role.ASSISTANT, self.begun),) if self.begun else ()
        return (*self.messages, *begun)


def is_plain(request: ChatRequest) -> bool:
    """Whether nothing but one text is asked for: no tools, no form, no chances."""
    extras = (request.tool_use, request.answer, request.top_logprobs)
    return request.choices == 1 and all(each is None for each in extras)


class FinishReason(StrEnum):
    """Why the answer ends."""

    STOP = "stop"  # the model ended it, or a stop text was met
    LENGTH = "length"  # max_tokens or the context is used up
    TOOL_CALLS = "tool_calls"  # it waits for what the called tools answer
    CONTENT_FILTER = "content_filter"  # a provider has held back the rest


MAX_COUNT: Final = 10**9
"""Tokens; no request takes so many, and sums of such counts fit where they are kept."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request took, as whoever answered counts it.

    cached_tokens: the part of the prompt that needed no computing. cache_write_tokens: the part
    that was kept for later, where that has a price; long_cache_write_tokens: how much of that is
    kept for hours instead of minutes. reasoning_tokens: the part of the completion that was thought
    and not said; None if nobody tells. accepted_tokens: the part of the completion that had been
    drafted by speculative decoding; rejected_tokens: drafted, and not in it; None if none were.
    """

    prompt_tokens: Tokens
    completion_tokens: Tokens
    cached_tokens: Tokens = Tokens(0)
    cache_write_tokens: Tokens = Tokens(0)
    reasoning_tokens: Tokens | None = None
    long_cache_write_tokens: Tokens = Tokens(0)
    accepted_tokens: Tokens | None = None
    rejected_tokens: Tokens | None = None

    @property
    def is_possible(self) -> bool:
        """Whether no count is below 0 or beyond reason, and no part larger than its whole."""
        thought = self.reasoning_tokens or 0
        parts = (
            self.cached_tokens,
            self.long_cache_write_tokens,
            self.cache_write_tokens - self.long_cache_write_tokens,
            self.prompt_tokens - self.cached_tokens - self.cache_write_tokens,
            thought,
            self.completion_tokens - thought,
        )
        return min(parts) >= 0 and max(self.prompt_tokens, self.completion_tokens) <= MAX_COUNT


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token and how likely it was.

    text: as it reads alone, where bytes that make no character are U+FFFD. data: its bytes, which
    may be part of a character; None if it stands for no text. logprob: the natural logarithm of
    its probability, -9999 to 0, before anything of Sampling has changed it.
    """

    text: str
    data: bytes | None
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of the answer. top: what was likeliest in its place, the likeliest first."""

    chosen: TokenChance
    top: tuple[TokenChance, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer; whole characters.

    logprobs: of the tokens that begin in it, if they were asked for. text: empty only where tokens
    make no character any more, because the answer ends inside one. choice: which answer it is of,
    from 0, as in all deltas.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of what the model thinks before it answers; never empty."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of a tool call.

    index: which call of this answer, from 0. id, name: in the first delta of a call, and only
    there. arguments: the next piece of its JSON text; may be empty.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """The next piece of a provider's explanation why the model does not answer; never empty."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ChoiceEnded:
    """One of several answers is whole, and others are not."""

    choice: int
    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Continued:
    """From here on another target speaks, which knows what was said so far.

    backend: as in Attempt. offset: characters (code points) of the text before it. choice: as in
    TextDelta; only an answer of one choice is gone on with.
    """

    model: ModelId
    backend: str
    offset: int
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the answer, or of the last of several.

    choice: which one ended last; `reason` is why that one did.
    usage: of all together, the prompt counted once; None if whoever answered does not tell; it is
    unknown then, not nothing.
    first_token, total: seconds from the lease to the first token and to the end.
    attempts: every target that was asked, the one that answered last; empty from a backend.
    cost: None if it is not known. continued: each change of who speaks; then usage and times are
    unknown, as whoever broke off did not tell.
    cheaper: what would have cost least of the route's other targets, and less than this answer.
    """

    reason: FinishReason
    usage: Usage | None
    first_token: Seconds | None = None
    total: Seconds | None = None
    attempts: tuple[Attempt, ...] = ()
    cost: Money | None = None
    choice: int = 0
    continued: tuple[Continued, ...] = ()
    cheaper: CheaperTarget | None = None


Delta = TextDelta | ReasoningDelta | ToolCallDelta | RefusalDelta
ChatEvent = Delta | ChoiceEnded | Continued | Finished
