"""A cancelled request is computed no further: steps are counted, not seconds.

A step is at most one micro-batch, and llama.cpp asks between the nodes of its graph whether to go
on, so what is cancelled inside a step ends inside it.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.test_engine import generate, load_of
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine import LlamaModel, open_llama_engine
from unified_llm.worker.engine_port import Report
from unified_llm.worker.protocol import Delta, Failed, Started

_ROUNDS = 200
_CONTEXT = 2048
_PROMPT = "a long prompt " * 100  # 1,400 tokens of the tiny model: three micro-batches


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[BatchingEngine]:
    engine = open_llama_engine()
    path = write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=_CONTEXT)
    engine.load(load_of(path, slots=2, context_tokens=_CONTEXT), lambda _: None)
    yield engine
    engine.close()


def steps_until(engine: BatchingEngine, number: int, kind: type[Report]) -> list[Report]:
    reports: list[Report] = []
    while not any(isinstance(each, kind) and each.id == number for each in reports):
        reports += engine.step(lambda: None)
    return reports


def test_a_cancelled_prompt_ends_inside_its_micro_batch(engine: BatchingEngine) -> None:
    draw = random.Random(1)
    model = engine._model
    assert isinstance(model, LlamaModel)
    for number in range(_ROUNDS):
        engine.submit(generate(number, f"{number} {_PROMPT}", principal=f"uid:{number}"))
        steps_until(engine, number, Started)
        for _ in range(draw.randrange(3)):
            assert engine.step(lambda: None) == []  # a micro-batch of the prompt
        asked, limit = 0, draw.randrange(1, 12)  # of some twenty times in a step of this model

        def cancel_soon(number: int = number, limit: int = limit) -> None:
            nonlocal asked
            asked += 1
            if asked == limit:
                engine.interrupt(number)

        before = engine.steps_done
        (failed,) = engine.step(cancel_soon)
        assert isinstance(failed, Failed)
        assert (failed.id, failed.code) == (number, "cancelled")
        assert engine.steps_done - before == 1  # the one it came in, which it ended
        assert asked == limit  # nothing was computed after it
        engine.cancel(number)
        assert not engine.is_busy


def test_a_cancelled_answer_gets_no_further_token_and_its_neighbour_goes_on(
    engine: BatchingEngine,
) -> None:
    draw = random.Random(2)
    engine.submit(generate(-1, principal="uid:-1", max_tokens=1700))
    steps_until(engine, -1, Delta)
    for number in range(_ROUNDS):
        engine.submit(generate(number, f"{number}", principal=f"uid:{number}", max_tokens=1000))
        steps_until(engine, number, Delta)
        for _ in range(draw.randrange(3)):
            engine.step(lambda: None)
        before = engine.steps_done
        engine.interrupt(number)
        reports = engine.step(lambda: None)
        engine.cancel(number)
        assert [each.id for each in reports if isinstance(each, Failed)] == [number]
        assert not any(each.id == number for each in reports if isinstance(each, Delta))
        assert engine.steps_done - before <= 1
        assert engine.active == 1
    # The first one has gone on all the while, and does so still.
    assert steps_until(engine, -1, Delta)
