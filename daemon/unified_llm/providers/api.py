"""What the API of a provider is to us: a request to bytes, bytes to events; no input or output."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from unified_llm.domain.chat import ChatEvent, ChatRequest
from unified_llm.domain.errors import ProviderFailed
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Tokens

MAX_MODELS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A POST of JSON. path: below the provider's address, without a slash in front."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model as its provider lists it. context_tokens: None if it does not say."""

    name: str
    context_tokens: Tokens | None = None


class AnswerReader(Protocol):
    """Reads one answer as it comes. What it gives does not depend on how the bytes are cut."""

    @property
    def is_done(self) -> bool:
        """Whether the terminal event has been given. Nothing is read after it."""

    def feed(self, data: bytes) -> Iterator[ChatEvent]:
        """The events that `data` completes. Raises UnifiedLlmError."""


class Exchange(Protocol):
    """Requests to one provider; Transport makes them over HTTP."""

    async def get(self, path: str, headers: Mapping[str, str]) -> bytes:
        """The body at `path`. Raises UnifiedLlmError."""

    def open_stream(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """POST `body`; entered when the provider has begun to answer. Raises UnifiedLlmError."""


class Api(Protocol):
    """One way to speak with providers."""

    models_path: str

    def headers(self, key: Secret | None) -> Mapping[str, str]:
        """What goes with every request; the only place where the key is revealed."""

    def render_chat(self, request: ChatRequest, name: str) -> Outgoing:
        """`request` for the model that the provider calls `name`. Raises InvalidRequest."""

    def open_reader(self, choices: int) -> AnswerReader:
        """For the answer to one chat, which asked for so many choices."""

    def parse_models(self, body: bytes) -> tuple[OfferedModel, ...]:
        """The models in the answer to a GET of `models_path`. Raises ProviderFailed."""


def broken_off() -> ProviderFailed:
    """The stream has ended before its terminal marker."""
    return ProviderFailed(
        "The provider's answer broke off before its end.",
        hint="What has come of it is not all of it.",
    )
