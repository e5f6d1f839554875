"""The frames of one request, between the worker's reader and the one who asked."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.chat import ChatRequest
from unified_llm.domain.embeddings import EmbeddingRequest, RerankRequest
from unified_llm.domain.errors import RequestTimedOut, UnifiedLlmError
from unified_llm.fleet.call_check import CallCheck
from unified_llm.fleet.vector_check import VectorCheck
from unified_llm.worker.protocol import (
    Call,
    Delta,
    Done,
    Embed,
    Failed,
    Generate,
    Rank,
    Started,
    Vector,
)

# From so much unread on the worker is asked to pause, and to go on when little is left. A worker
# that does not obey, or that sends huge pieces, has its request cut off at the last limit.
PAUSE_AT: Final = 16 * 1024
RESUME_AT: Final = 4 * 1024
MAX_UNREAD: Final = 256 * 1024
_WEIGHT_OF_CHANCE: Final = 64

GenerationFrame = Started | Delta | Call | Vector | Done | Failed
Asked = ChatRequest | EmbeddingRequest | RerankRequest


class WorkerLeavingError(Exception):
    """The worker is ending and has taken nothing: the request may go to the next one."""


@dataclass(frozen=True, slots=True)
class Order:
    """A request as it goes to a worker.

    fingerprint: tells the same request again without keeping its text.
    """

    principal: str
    request: Asked
    fingerprint: bytes

    def frame(self, number: int) -> Generate | Embed | Rank:
        """The message that asks for it."""
        match self.request:
            case ChatRequest() as chat:
                return Generate(
                    id=number,
                    principal=self.principal,
                    messages=chat.messages,
                    max_tokens=chat.max_tokens,
                    stop=chat.stop,
                    sampling=chat.sampling,
                    top_logprobs=chat.top_logprobs,
                    answer=chat.answer,
                    tool_use=chat.tool_use,
                    adapter=chat.adapter,
                    begun=chat.begun,
                )
            case EmbeddingRequest() as texts:
                return Embed(id=number, texts=texts.texts, dimensions=texts.dimensions)
            case RerankRequest() as pairs:
                return Rank(id=number, query=pairs.query, documents=pairs.documents)

    def call_check(self) -> CallCheck:
        """What it may call."""
        return CallCheck(self.request.tool_use if isinstance(self.request, ChatRequest) else None)

    def vector_check(self) -> VectorCheck | None:
        """What its vectors have to be; None if it is answered with text."""
        match self.request:
            case EmbeddingRequest(texts=texts, dimensions=dimensions):
                return VectorCheck(len(texts), dimensions)
            case RerankRequest(documents=documents):
                return VectorCheck(len(documents), 1, is_score=True)
            case ChatRequest():
                return None


class GenerationStream:
    """A bounded mailbox with exactly one end: Done, Failed, or an error raised.

    Two ends are told apart. The worker has ended it (`has_ended`) when it no longer computes; the
    reader sees an end when it has read what came before.

    unread: what the frames that wait weigh. vectors: None if the answer is text, which may have
        `calls` in it.
    on_drained: called when the reader of a paused stream has caught up; it is paused no more.
    """

    def __init__(
        self,
        number: int,
        fingerprint: bytes,
        vectors: VectorCheck | None = None,
        calls: CallCheck | None = None,
        *,
        on_drained: Callable[[], None] = lambda: None,
    ) -> None:
        self.number = number
        self.fingerprint = fingerprint
        self._vectors = vectors
        self._calls = calls or CallCheck(None)
        self._frames: deque[GenerationFrame] = deque()
        self.unread = 0
        self._on_drained = on_drained
        self._is_paused = False
        self.has_started = False
        self._error: UnifiedLlmError | None = None
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether the worker is done with it, one way or another."""
        return self._ended.is_set()

    async def ended(self) -> None:
        """Wait until the worker is done with it."""
        await self._ended.wait()

    async def next_frame(self) -> GenerationFrame:
        """The next frame, in order. Raises what ended the stream, after the last frame."""
        while not self._frames:
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._frames.popleft()
        self.unread -= _weight(frame)
        if self._is_paused and self.unread <= RESUME_AT:
            self._is_paused = False
            self._on_drained()
        return frame

    def complaint(self, frame: GenerationFrame) -> str | None:
        """Why the worker may not send `frame` now, as half a sentence; None if it may."""
        if isinstance(frame, Started) and self.has_started:
            return "started twice"
        if self._vectors is not None:
            return self._vectors.complaint(frame)
        if isinstance(frame, Call):
            return self._calls.complaint(frame)
        return "answered with a vector" if isinstance(frame, Vector) else None

    def put(self, frame: GenerationFrame) -> None:
        """Take a frame from the worker; a Done or Failed ends the stream."""
        self.has_started |= isinstance(frame, Started)
        if isinstance(frame, Done | Failed):
            self._ended.set()
        if self._error is not None:
            return
        self.unread += _weight(frame)
        self._frames.append(frame)
        self._arrived.set()

    @property
    def is_overfull(self) -> bool:
        """Whether its reader has fallen too far behind."""
        return self.unread > MAX_UNREAD and self._error is None

    def pause_if_full(self) -> bool:
        """Whether the worker has to be told now that the reader is slow."""
        is_due = self.unread > PAUSE_AT and not self._is_paused and not self.has_ended
        self._is_paused |= is_due
        return is_due

    def cut_off(self) -> None:
        """End it for a reader that does not read; the worker has yet to end it."""
        self._frames.clear()
        self.unread = 0
        self._fail(
            RequestTimedOut(f"More than {MAX_UNREAD} characters of the answer were not read.")
        )

    def lose_worker(self, error: UnifiedLlmError) -> None:
        """The worker is gone, or as good as gone."""
        if not self.has_ended:
            self._ended.set()
            self._fail(error)

    def _fail(self, error: UnifiedLlmError) -> None:
        self._error = self._error or error
        self._arrived.set()


def _weight(frame: GenerationFrame) -> int:
    """What an unread frame counts for: characters, and as much for chances as they take."""
    if isinstance(frame, Call):
        return len(frame.name or "") + len(frame.arguments)
    if not isinstance(frame, Delta):
        return 0
    chances = sum(1 + len(score.top) for score in frame.scores)
    return len(frame.text) + _WEIGHT_OF_CHANCE * chances
