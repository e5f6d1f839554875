"""An encoder without a model: texts with the same words have the same vector.

Directives in a text are obeyed as in `fake_engine`. A document's score is the share of the query's
words that are in it.
"""

import re
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Final
from zlib import crc32

from unified_llm.domain.profile import Purpose
from unified_llm.worker.embedding import EncodingEngine
from unified_llm.worker.engine_port import Engine, OnProgress
from unified_llm.worker.fake_engine import (
    Script,
    obey,
    open_fake_engine,
    parse_script,
    read_fake_model,
)
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.protocol import Load

_DIMENSIONS: Final = 8


class FakeEncoder:
    """An Encoder whose tokens are words."""

    def __init__(self, load: Load, size_bytes: int, sleep: Callable[[float], None]) -> None:
        self.context_tokens = load.context_tokens
        self.slots = load.slots
        self.dimensions = 1 if load.purpose is Purpose.RANKING else _DIMENSIONS
        self.memory_bytes: int | None = size_bytes
        self.gpu_bytes: tuple[int, ...] = tuple(size_bytes * bool(each) for each in load.gpu_layers)
        self.description = "fake encoder"
        self._sleep = sleep
        self._scripts: dict[int, Script] = {}
        self._scores: dict[int, float] = {}

    def encode_text(self, text: str) -> list[int]:
        script = parse_script(text)
        tokens = [crc32(word.strip().encode()) for word in script.words] or [0]
        self._scripts[hash(tuple(tokens))] = script
        return tokens

    def encode_pair(self, query: str, document: str) -> list[int]:
        wanted, found = (set(re.findall(r"\w+", text.lower())) for text in (query, document))
        tokens = self.encode_text(f"{query} {document}")
        self._scores[hash(tuple(tokens))] = len(wanted & found) / max(1, len(wanted))
        return tokens

    def compute(
        self, texts: Sequence[Sequence[int]], should_stop: Callable[[], bool]
    ) -> list[Sequence[float]] | None:
        scripts = [self._scripts[hash(tuple(tokens))] for tokens in texts]
        slowest = max(scripts, key=lambda each: (each.crashes, each.hangs, each.step_seconds))
        if not obey(slowest, self._sleep, should_stop):
            return None
        return [self._vector(tokens) for tokens in texts]

    def interrupt(self) -> None:
        """Its steps ask all the time."""

    def close(self) -> None:
        self._scripts.clear()

    def _vector(self, tokens: Sequence[int]) -> Sequence[float]:
        if self.dimensions == 1:
            return array("f", [self._scores[hash(tuple(tokens))]])
        vector = array("f", [1.0] + [0.0] * (self.dimensions - 1))
        for token in tokens:
            vector[token % self.dimensions] += 1
        return vector


def open_engine(
    purpose: Purpose,
    states: KeptStates | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Engine:
    """The Engine behind `--engine fake`, for models of any purpose."""
    if purpose is Purpose.CHAT:
        return open_fake_engine(states, sleep)

    def open_encoder(load: Load, on_progress: OnProgress) -> FakeEncoder:
        content = read_fake_model(load, sleep, on_progress)
        return FakeEncoder(load, len(content), sleep)

    return EncodingEngine(open_encoder)
