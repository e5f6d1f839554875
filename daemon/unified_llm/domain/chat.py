"""A chat completion: what is asked, and the events that answer it.

A stream of ChatEvent is: any number of TextDelta, then exactly one Finished. A stream that cannot
end that way raises a UnifiedLlmError instead; there is no third ending.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds, Tokens


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `content` is plain text, whatever markup it seems to hold."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. None takes the daemon's default, stated in the reference.

    temperature: 0 (always the likeliest) to 2.
    top_p: 0 exclusive to 1. top_k: 0 (off) to 1000. min_p: 0 (off) to 1.
    repeat_penalty: 0 exclusive to 2; 1 is off.
    frequency_penalty, presence_penalty: -2 to 2; 0 is off.
    seed: 0 to 2^32 - 2; None draws one.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be continued.

    max_tokens: most tokens to generate; None for what is left of the context.
    stop: up to 4 texts of 1 to 64 characters that end the answer and are not part of it.
    """

    model: ModelId
    messages: tuple[Message, ...]
    max_tokens: Tokens | None = None
    stop: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)


class FinishReason(StrEnum):
    """Why the answer ends."""

    STOP = "stop"  # the model ended it, or a stop text was met
    LENGTH = "length"  # max_tokens or the context is used up


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request took.

    cached_tokens: the part of the prompt that needed no computing.
    """

    prompt_tokens: Tokens
    completion_tokens: Tokens
    cached_tokens: Tokens = Tokens(0)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer; whole characters, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the answer.

    first_token, total: seconds from the lease to the first token and to the end.
    """

    reason: FinishReason
    usage: Usage
    first_token: Seconds | None = None
    total: Seconds | None = None


ChatEvent = TextDelta | Finished
