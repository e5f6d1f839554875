"""Texts become vectors, those of several requests in one step.

Rule 1: an encoder sees a text at once: it is in one step, or the request is refused with numbers
before anything of it is computed. Nothing is cut.
Rule 2: requests take turns, a text each, so that a thousand texts of one hold up nobody.
Rule 3: nothing is remembered of a text, so whose it is makes no difference.
"""

import math
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from unified_llm.domain.chat import FinishReason
from unified_llm.domain.errors import (
    Cancelled,
    InternalError,
    InvalidRequest,
    TooLarge,
    UnifiedLlmError,
)
from unified_llm.worker.engine_port import OnProgress, Pulse, Report, Request
from unified_llm.worker.interrupts import Interrupts
from unified_llm.worker.model_port import DecodeError
from unified_llm.worker.protocol import (
    MAX_NUMBERS,
    Done,
    Embed,
    Failed,
    Generate,
    Load,
    Loaded,
    Rank,
    Started,
    Vector,
)

# More texts in a step gain nothing on a CPU: 32 of 13 tokens took 151 ms, 64 took 322 (MiniLM).
STEP_TEXTS: Final = 32
# Attention costs the square of a step, so short texts are not gathered beyond this.
STEP_TOKENS: Final = 512
_MAX_BYTES_PER_TOKEN: Final = 16  # of context; a larger text is refused before it is tokenised


def step_tokens_of(context_tokens: int) -> int:
    """The most tokens of a step, where a text may have so many."""
    return max(STEP_TOKENS, context_tokens)


class Encoder(Protocol):
    """A loaded model that makes one vector of a whole text.

    context_tokens: most tokens of a text. dimensions: numbers of a vector.
    """

    context_tokens: int
    slots: int
    dimensions: int
    memory_bytes: int | None
    gpu_bytes: tuple[int, ...]
    description: str

    def encode_text(self, text: str) -> list[int]:
        """The tokens of a text, with those the model expects around it. Raises InvalidRequest."""

    def encode_pair(self, query: str, document: str) -> list[int]:
        """The tokens of a query and a document to be judged by it. Raises InvalidRequest."""

    def compute(
        self, texts: Sequence[Sequence[int]], should_stop: Callable[[], bool]
    ) -> list[Sequence[float]] | None:
        """The vector of each text, as the model gives it; None if it was ended early.

        At most STEP_TEXTS texts, of at most STEP_TOKENS tokens together unless it is one text.
        Raises DecodeError.
        """

    def interrupt(self) -> None:
        """End the step in progress early, from another thread; too late, it may end the next."""

    def close(self) -> None:
        """Free it all."""


OpenEncoder = Callable[[Load, OnProgress], Encoder]
"""Raises ModelFailedToLoad."""


@dataclass(slots=True)
class _Task:
    request: Embed | Rank
    texts: list[list[int]]
    computed: int = 0

    @property
    def is_done(self) -> bool:
        return self.computed == len(self.texts)

    def done(self) -> Done:
        return Done(
            id=self.request.id,
            reason=FinishReason.STOP,
            prompt_tokens=sum(map(len, self.texts)),
            completion_tokens=0,
            cached_tokens=0,
        )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text of a step."""

    task: _Task
    tokens: list[int]


class EncodingEngine:
    """The Engine over any Encoder."""

    def __init__(self, open_encoder: OpenEncoder) -> None:
        self._open_encoder = open_encoder
        self._loaded: Encoder | None = None
        self._tasks: dict[int, _Task] = {}  # whose turn is next comes first
        self._news: list[Report] = []
        self._steps_done = 0
        self._interrupts = Interrupts()

    @property
    def steps_done(self) -> int:
        return self._steps_done

    @property
    def active(self) -> int:
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        return 0

    @property
    def is_busy(self) -> bool:
        return bool(self._tasks or self._news)

    @property
    def _encoder(self) -> Encoder:
        if self._loaded is None:
            raise RuntimeError("no model is loaded")
        return self._loaded

    def load(self, load: Load, on_progress: OnProgress) -> Loaded:
        encoder = self._loaded = self._open_encoder(load, on_progress)
        return Loaded(
            context_tokens=encoder.context_tokens,
            slots=encoder.slots,
            memory_bytes=encoder.memory_bytes,
            gpu_bytes=encoder.gpu_bytes,
            description=encoder.description,
        )

    def close(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def submit(self, request: Request) -> None:
        try:
            task = self._accept(request)
        except UnifiedLlmError as error:
            parameter = error.parameter if isinstance(error, InvalidRequest) else None
            self._refuse(request.id, error.code, str(error), parameter)
            return
        except DecodeError as error:
            self._refuse(request.id, InternalError.code, str(error))
            return
        self._tasks[request.id] = task
        self._news.append(
            Started(id=request.id, prompt_tokens=sum(map(len, task.texts)), cached_tokens=0)
        )

    def cancel(self, request_id: int) -> None:
        if request_id in self._tasks:
            self._interrupts.ask(request_id)
        else:
            self._interrupts.withdraw(request_id)

    def interrupt(self, request_id: int) -> None:
        if self._interrupts.ask(request_id) and self._loaded is not None:
            self._loaded.interrupt()

    def hurry(self) -> None:
        self._interrupts.hurry()
        if self._loaded is not None:
            self._loaded.interrupt()

    def save_states(self) -> None:
        """Nothing is remembered."""

    def drop_state(self, state: int) -> None:
        """None is kept."""

    def pause(self, request_id: int) -> None:
        """Never needed: what a request is answered with is bounded."""

    def resume(self, request_id: int) -> None:
        """None is paused."""

    def step(self, pulse: Pulse) -> list[Report]:
        news, self._news = self._news, []
        news += self._end_interrupted()
        # Told before the step that may take long, or be the last thing the process does.
        return news if news or not self._tasks else self._compute(self._plan(), pulse)

    def _accept(self, request: Request) -> _Task:
        if request.id in self._tasks:
            raise InvalidRequest(f"Request {request.id} is already being answered.")
        match request:
            case Embed():
                _check_dimensions(request, self._encoder.dimensions)
                texts = (self._tokens(text, index) for index, text in enumerate(request.texts))
                return _Task(request, list(texts))
            case Rank():
                pairs = (
                    self._pair(request.query, document, index)
                    for index, document in enumerate(request.documents)
                )
                return _Task(request, list(pairs))
            case Generate():
                raise InvalidRequest("The model makes vectors and no text.")

    def _tokens(self, text: str, index: int) -> list[int]:
        where = f"Text {index}"
        self._check_bytes(where, text)
        return self._checked(where, self._encoder.encode_text(text))

    def _pair(self, query: str, document: str, index: int) -> list[int]:
        where = f"The query with document {index}"
        self._check_bytes(where, query + document)
        return self._checked(where, self._encoder.encode_pair(query, document))

    def _check_bytes(self, where: str, text: str) -> None:
        size, limit = len(text.encode()), self._encoder.context_tokens * _MAX_BYTES_PER_TOKEN
        if size > limit:
            raise TooLarge(
                f"{where} has {size} bytes; a context of {self._encoder.context_tokens} tokens "
                f"takes at most {limit}.",
                hint="Split it into shorter texts.",
            )

    def _checked(self, where: str, tokens: list[int]) -> list[int]:
        limit = self._encoder.context_tokens
        if len(tokens) > limit:
            raise TooLarge(
                f"{where} has {len(tokens)} tokens; the model sees at most {limit} at once.",
                hint="Split it into shorter texts.",
            )
        return tokens

    def _refuse(
        self, request_id: int, code: str, message: str, parameter: str | None = None
    ) -> None:
        self._interrupts.withdraw(request_id)
        self._news.append(Failed(id=request_id, code=code, message=message, parameter=parameter))

    def _plan(self) -> list[_Piece]:
        """A text of each request in turn, as many as fit; the first one always does."""
        pieces: list[_Piece] = []
        turns = [(task, task.computed) for task in self._tasks.values()]
        left = STEP_TOKENS
        for task, index in turns:  # which grows while it is walked
            tokens = task.texts[index]
            if pieces and (len(tokens) > left or len(pieces) == STEP_TEXTS):
                break
            pieces.append(_Piece(task, tokens))
            left -= len(tokens)
            if index + 1 < len(task.texts):
                turns.append((task, index + 1))
        return pieces

    def _compute(self, pieces: Sequence[_Piece], pulse: Pulse) -> list[Report]:
        ids = frozenset(piece.task.request.id for piece in pieces)
        try:
            with self._interrupts.open_step(ids, pulse) as should_stop:
                vectors = self._encoder.compute([piece.tokens for piece in pieces], should_stop)
        except DecodeError as error:
            return [self._fail(request_id, str(error)) for request_id in ids]
        finally:
            self._steps_done += 1
        if vectors is None:
            return self._end_interrupted()
        reports: list[Report] = []
        for piece, vector in zip(pieces, vectors, strict=True):
            reports += self._take(piece.task, vector)
        first = pieces[0].task
        if self._tasks.pop(first.request.id, None) is not None and not first.is_done:
            self._tasks[first.request.id] = first
        return reports

    def _take(self, task: _Task, vector: Sequence[float]) -> list[Report]:
        request = task.request
        if request.id not in self._tasks:
            return []
        numbers = _finished(request, vector)
        if numbers is None:
            return [self._fail(request.id, "the model made a vector without a direction")]
        task.computed += 1
        reports: list[Report] = [Vector(id=request.id, numbers=numbers)]
        if task.is_done:
            self._forget(request.id)
            reports.append(task.done())
        return reports

    def _end_interrupted(self) -> list[Report]:
        ended = self._interrupts.among(self._tasks)
        for request_id in ended:
            self._forget(request_id)
        error = Cancelled("The request was cancelled.")
        return [Failed(id=each, code=error.code, message=str(error)) for each in ended]

    def _fail(self, request_id: int, reason: str) -> Failed:
        self._forget(request_id)
        return Failed(id=request_id, code=InternalError.code, message=reason)

    def _forget(self, request_id: int) -> None:
        self._tasks.pop(request_id, None)
        self._interrupts.withdraw(request_id)


def _check_dimensions(request: Embed, own: int) -> None:
    if request.dimensions is not None and request.dimensions > own:
        raise InvalidRequest(
            f"dimensions is {request.dimensions}; the model's vectors have {own}.",
            parameter="dimensions",
        )
    count = len(request.texts)
    if count * own > MAX_NUMBERS:
        raise TooLarge(
            f"{count} texts with {own} dimensions make {count * own} numbers; {MAX_NUMBERS} is "
            "the most.",
            hint=f"Send at most {MAX_NUMBERS // own} texts at once.",
        )


def _finished(request: Embed | Rank, vector: Sequence[float]) -> bytes | None:
    """As it is sent: cut and of length 1, or a score alone. None if that can not be made of it."""
    if isinstance(request, Rank):
        return _packed(vector[:1]) if math.isfinite(vector[0]) else None
    cut = vector[: request.dimensions]
    length = math.hypot(*cut)
    if not 0 < length < math.inf:
        return None
    return _packed([number / length for number in cut])


def _packed(numbers: Sequence[float]) -> bytes:
    packed = array("f", numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()
