"""An engine without a model, for tests of everything around one. Selected by `--engine fake`.

It answers with the last message's words. A model file is anything that begins with `GGUF`. The
last message, and the model file after its magic, may hold directives, each a word (and its number):

    !tokens N       answer with the numbers 1 to N instead
    !step SECONDS   let each decode step take that long, with heartbeats; or the load
    !crash          end the process by SIGABRT in the first decode step; or in the load
    !hang           stay in the first decode step for ever, without a heartbeat; or in the load
    !oom            of a model file: run out of memory in a load that puts layers on a GPU
"""

import os
import re
import threading
import time
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from unified_llm.domain.chat import Message, Tool
from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad, NoRoom
from unified_llm.domain.units import Instant
from unified_llm.grammar.calls import CallForm
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine_port import OnProgress
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.model_port import DecodeError
from unified_llm.worker.protocol import Chance, Load, Rehearsed, Score
from unified_llm.worker.sampling import ResolvedSampling
from unified_llm.worker.slots import Feed, Seat
from unified_llm.worker.thinking import Thinking

BUILD: Final = "fake 1"

_MAGIC: Final = b"GGUF"
_BATCH_TOKENS: Final = 64
_SLICE_SECONDS: Final = 0.01  # between two looks at whether to stop
_MAX_SECONDS: Final = 3600.0
_MAX_TOKENS: Final = 1_000_000
_VOCABULARY_SIZE: Final = 2**31  # every word that was ever said is a token
_DIRECTIVES: Final = re.compile(
    r"!(?:(crash|hang|oom)\b|(tokens)\s+(\d+)|(step)\s+(\d+(?:\.\d+)?))\s*"
)
_TOKEN_BITS: Final = 2**31 - 1
_END: Final = 0
_TURN: Final = 1
_BEGUN: Final = 2


@dataclass(slots=True)
class Script:
    """What a message makes the fake do."""

    words: list[str]
    crashes: bool = False
    hangs: bool = False
    runs_out: bool = False
    step_seconds: float = 0.0


def parse_script(text: str) -> Script:
    """What `text` says shall be done."""
    script = Script(words=words_of(_DIRECTIVES.sub("", text)))
    for deed, tokens, count, _, seconds in _DIRECTIVES.findall(text):
        script.crashes |= deed == "crash"
        script.hangs |= deed == "hang"
        script.runs_out |= deed == "oom"
        if tokens:
            numbers = range(1, min(int(count), _MAX_TOKENS) + 1)
            script.words = [f"{number} " for number in numbers]
        if seconds:
            script.step_seconds = min(float(seconds), _MAX_SECONDS)
    return script


def words_of(text: str) -> list[str]:
    """The tokens of `text`."""
    return re.findall(r"\s*\S+|\s+$", text)


def go_on(script: Script, begun: str) -> Script:
    """The same, of which `begun` has been said, if it can have been said by it."""
    whole = "".join(script.words)
    if begun and whole.startswith(begun):
        script.words = words_of(whole.removeprefix(begun))
    return script


def obey(script: Script, sleep: Callable[[float], None], should_stop: Callable[[], bool]) -> bool:
    """Do what the script says; False if stopped while at it."""
    if script.crashes:
        os.abort()
    if script.hangs:
        threading.Event().wait()
    left = script.step_seconds
    while left > 0:
        if should_stop():
            return False
        sleep(min(left, _SLICE_SECONDS))
        left -= _SLICE_SECONDS
    return not should_stop()


class FakeModel:
    """A Model whose tokens are words, and which answers with what it was told."""

    def __init__(self, load: Load, size_bytes: int, sleep: Callable[[float], None]) -> None:
        self.context_tokens = load.context_tokens
        self.slots = load.slots
        self.batch_tokens = self.step_tokens = max(_BATCH_TOKENS, load.slots)
        self.vocabulary_size = _VOCABULARY_SIZE
        self.memory_bytes: int | None = size_bytes
        self.gpu_bytes: tuple[int, ...] = tuple(size_bytes * bool(each) for each in load.gpu_layers)
        self.description = "fake model"
        self.thinking: Thinking | None = None
        self.call_form: CallForm | None = None
        self._sleep = sleep
        self._word_of: dict[int, str] = {}
        self._scripts: dict[int, Script] = {}
        self._remembered: dict[int, list[int]] = {}

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        begun: str = "",
        principal: str = "",
    ) -> list[int]:
        if any(message.images for message in messages):
            raise InvalidRequest("The fake engine sees nothing.", parameter="messages")
        tokens: list[int] = []
        for message in messages:
            tokens += [_TURN, *self._tokens(message.content)]
        return [*tokens, _BEGUN, *self._tokens(begun)] if begun else tokens

    def ensure_grammar(self, grammar: str) -> None:
        raise InvalidRequest(
            "The fake engine writes what it was told, and cannot keep to a form.",
            hint="Set worker.engine to llama.",
        )

    def begin(
        self, seat: Seat, sampling: ResolvedSampling, prompt: Sequence[int], grammar: str | None
    ) -> int:
        turn = max(index for index, token in enumerate(prompt) if token == _TURN)
        last = list(prompt[turn + 1 :])
        cut = last.index(_BEGUN) if _BEGUN in last else len(last)
        script = parse_script(self._text_of(last[:cut]))
        self._scripts[seat.slot] = go_on(script, self._text_of(last[cut + 1 :]))
        source = seat.slot if seat.source is None else seat.source
        remembered = self._remembered.get(source, [])[: seat.cached]
        if remembered != list(prompt[: seat.cached]):
            raise DecodeError(f"slot {source} does not remember the beginning of the prompt")
        self._remembered[seat.slot] = remembered
        return seat.cached

    def is_unseen(self, feed: Feed) -> bool:
        return False

    def see(self, feed: Feed, should_stop: Callable[[], bool]) -> bool:
        raise DecodeError("the fake engine sees nothing")

    def decode(self, feeds: Sequence[Feed], should_stop: Callable[[], bool]) -> bool:
        for feed in feeds:
            if feed.position != len(self._remembered[feed.slot]):
                raise DecodeError(f"slot {feed.slot} does not continue at {feed.position}")
        if len({feed.adapter for feed in feeds}) != 1:
            raise DecodeError("a step is for one adapter")
        scripts = [self._scripts[feed.slot] for feed in feeds]
        slowest = max(scripts, key=lambda each: (each.crashes, each.hangs, each.step_seconds))
        if not obey(slowest, self._sleep, should_stop):
            return False
        for feed in feeds:
            self._remembered[feed.slot] += feed.tokens + feed.draft
        return True

    def interrupt(self) -> None:
        """Its steps ask all the time."""

    def sample(self, slot: int) -> int:
        script = self._scripts[slot]
        if not script.words:
            return _END
        return self._token(script.words.pop(0))

    def advance(self, slot: int) -> None:
        """What it says does not depend on what was fed."""

    def constrain(self, slot: int, grammar: str, token: int) -> int:
        raise DecodeError("there are no calls without a form of them")

    def score(self, slot: int, token: int, top: int) -> Score:
        likeliest = [self._word_of[token], *(f" other{number}" for number in range(1, top))]
        chances = [
            Chance(text=word, data=word.encode(), logprob=-0.5 - rank)
            for rank, word in enumerate(likeliest)
        ]
        return Score(chosen=chances[0], top=tuple(chances[:top]))

    def is_end(self, token: int) -> bool:
        return token == _END

    def piece(self, token: int) -> bytes:
        return self._word_of[token].encode()

    def truncate(self, slot: int, position: int) -> bool:
        del self._remembered[slot][position:]
        return True

    def state_bytes(self, slot: int) -> int:
        return 4 * len(self._remembered.get(slot, []))

    def save_state(self, slot: int, room: memoryview) -> bool:
        room[:] = array("i", self._remembered[slot]).tobytes()
        return True

    def restore_state(self, slot: int, state: memoryview) -> bool:
        self._remembered[slot] = array("i", state.tobytes()).tolist()
        return True

    def end(self, slot: int) -> None:
        self._scripts.pop(slot, None)

    def close(self) -> None:
        self._scripts.clear()

    def _tokens(self, text: str) -> list[int]:
        return [self._token(word) for word in words_of(text)]

    def _text_of(self, tokens: Sequence[int]) -> str:
        return "".join(self._word_of[token] for token in tokens)

    def _token(self, word: str) -> int:
        # The same in every process, so that a kept state means the same to the next one.
        token = zlib.crc32(word.encode()) & _TOKEN_BITS
        while token <= _BEGUN or self._word_of.setdefault(token, word) != word:
            token = token + 1 & _TOKEN_BITS
        return token


def open_fake_engine(
    states: KeptStates | None = None, sleep: Callable[[float], None] = time.sleep
) -> BatchingEngine:
    """The Engine behind `--engine fake`."""

    def open_model(load: Load, on_progress: OnProgress) -> FakeModel:
        return FakeModel(load, len(read_fake_model(load, sleep, on_progress)), sleep)

    # A clock that stands still: what a step is told to take is not to be made up for by drafts.
    return BatchingEngine(open_model, draw_seed=lambda: 0, states=states, now=lambda: Instant(0))


def rehearse_fake(load: Load) -> Rehearsed:
    """What a load would take, as `FakeModel` says it afterwards."""
    size_bytes = len(_content(load))
    on_gpus = tuple(size_bytes * bool(each) for each in load.gpu_layers)
    return Rehearsed(cache_bytes=0, working_bytes=size_bytes, gpu_working_bytes=on_gpus)


def _never() -> bool:
    return False


def read_fake_model(load: Load, sleep: Callable[[float], None], on_progress: OnProgress) -> bytes:
    """The file's content, once its directives have been obeyed.

    Raises ModelFailedToLoad, and NoRoom if one says so.
    """
    content = _content(load)
    script = parse_script(content[len(_MAGIC) :].decode(errors="replace"))
    obey(script, sleep, _never)
    if script.runs_out and any(load.gpu_layers):
        raise NoRoom("The GPU has no memory left, as the model file wishes.")
    for fraction in (0.0, 0.5, 1.0):
        on_progress(fraction)
    return content


def _content(load: Load) -> bytes:
    try:
        content = Path(load.path).read_bytes()
    except OSError as error:
        raise ModelFailedToLoad(
            f"The model file cannot be read: {os.strerror(error.errno or 0)}."
        ) from error
    if not content.startswith(_MAGIC):
        raise ModelFailedToLoad("The model file is not GGUF: it does not begin with its magic.")
    if load.slots < 1 or load.context_tokens < 1:
        raise ModelFailedToLoad(
            f"{load.slots} slots of {load.context_tokens} tokens make no context."
        )
    return content
