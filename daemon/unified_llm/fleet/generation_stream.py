"""The frames of one request, between the worker's reader and the one who asked."""

import asyncio
from collections import deque
from dataclasses import dataclass

from unified_llm.domain.chat import ChatRequest
from unified_llm.domain.errors import RequestTimedOut, UnifiedLlmError
from unified_llm.worker.protocol import Delta, Done, Failed, Generate, Started

# A reader that lags further behind than this is cut off; the notes allow 256 KiB per stream.
MAX_UNREAD_CHARACTERS = 256 * 1024

GenerationFrame = Started | Delta | Done | Failed


class WorkerLeavingError(Exception):
    """The worker is ending and has taken nothing: the request may go to the next one."""


@dataclass(frozen=True, slots=True)
class Order:
    """A request as it goes to a worker.

    fingerprint: tells the same request again without keeping its text.
    """

    principal: str
    request: ChatRequest
    fingerprint: bytes

    def frame(self, number: int) -> Generate:
        """The message that asks for it."""
        return Generate(
            id=number,
            principal=self.principal,
            messages=self.request.messages,
            max_tokens=self.request.max_tokens,
            stop=self.request.stop,
            sampling=self.request.sampling,
            top_logprobs=self.request.top_logprobs,
        )


class GenerationStream:
    """A bounded mailbox with exactly one end: Done, Failed, or an error raised.

    Two ends are told apart. The worker has ended it (`has_ended`) when it no longer computes; the
    reader sees an end when it has read what came before.
    """

    def __init__(self, number: int, fingerprint: bytes) -> None:
        self.number = number
        self.fingerprint = fingerprint
        self._frames: deque[GenerationFrame] = deque()
        self._unread = 0
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
        if isinstance(frame, Delta):
            self._unread -= len(frame.text)
        return frame

    def put(self, frame: GenerationFrame) -> None:
        """Take a frame from the worker; a Done or Failed ends the stream."""
        self.has_started |= isinstance(frame, Started)
        if isinstance(frame, Done | Failed):
            self._ended.set()
        if self._error is not None:
            return
        if isinstance(frame, Delta):
            self._unread += len(frame.text)
        self._frames.append(frame)
        self._arrived.set()

    @property
    def is_overfull(self) -> bool:
        """Whether its reader has fallen too far behind."""
        return self._unread > MAX_UNREAD_CHARACTERS and self._error is None

    def cut_off(self) -> None:
        """End it for a reader that does not read; the worker has yet to end it."""
        self._frames.clear()
        self._unread = 0
        self._fail(
            RequestTimedOut(f"{MAX_UNREAD_CHARACTERS} characters of the answer were not read.")
        )

    def lose_worker(self, error: UnifiedLlmError) -> None:
        """The worker is gone, or as good as gone."""
        if not self.has_ended:
            self._ended.set()
            self._fail(error)

    def _fail(self, error: UnifiedLlmError) -> None:
        self._error = self._error or error
        self._arrived.set()
