"""The real engine keeps answers to their form, whatever else is asked of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contracts.test_engine_llama import load_of
from tests.real_models import smollm2
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.chat import FinishReason, JsonAnswer, Message, Role, Sampling
from unified_llm.domain.units import Instant
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine import LlamaModel, open_llama_engine
from unified_llm.worker.engine_port import Report
from unified_llm.worker.native_log import NativeLog
from unified_llm.worker.protocol import Delta, Done, Failed, Generate, Started

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,9}$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["old", "young"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
}


def ask(
    schema: object,
    *,
    number: int = 1,
    max_tokens: int = 200,
    stop: tuple[str, ...] = (),
    **sampling: Any,
) -> Generate:
    return Generate(
        id=number,
        principal="uid:1000",
        messages=(Message(Role.USER, "Describe somebody as JSON."),),
        max_tokens=max_tokens,
        stop=stop,
        sampling=Sampling(**sampling),
        answer=JsonAnswer(None if schema is None else json.dumps(schema)),
    )


def answers(engine: BatchingEngine, *requests: Generate) -> dict[int, tuple[str, Done]]:
    for request in requests:
        engine.submit(request)
    texts = {request.id: "" for request in requests}
    ends: dict[int, Done] = {}
    while engine.is_busy:
        for report in engine.step(lambda: None):
            assert not isinstance(report, Failed), report
            if isinstance(report, Delta):
                texts[report.id] += report.text
            if isinstance(report, Done):
                ends[report.id] = report
    return {number: (texts[number], ends[number]) for number in texts}


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[BatchingEngine]:
    engine = open_llama_engine()
    path = write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=512)
    engine.load(load_of(path), lambda _: None)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0},
        {"temperature": 2.0, "seed": 1, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
        {"temperature": 1.0, "seed": 2, "top_k": 1, "repeat_penalty": 2.0},
        {"temperature": 0.0, "presence_penalty": 2.0, "frequency_penalty": -2.0},
    ],
)
def test_a_model_that_babbles_answers_by_the_schema(
    tiny: BatchingEngine, sampling: dict[str, Any]
) -> None:
    ((text, done),) = answers(tiny, ask(PERSON, **sampling)).values()
    assert done.reason is FinishReason.STOP
    person = json.loads(text)
    assert list(person) == ["name", "age", "tags"]
    assert 0 <= person["age"] <= 120
    assert set(person["tags"]) <= {"old", "young"}


def test_the_same_seed_gives_the_same_answer_of_the_same_form(tiny: BatchingEngine) -> None:
    asked = [ask(None, number=number, max_tokens=40, seed=7) for number in (1, 2)]
    (one, _), (two, _) = answers(tiny, *asked).values()
    assert one == two != ""
    assert one.startswith("{")


def test_a_limit_and_a_stop_text_end_the_answer_before_its_form_is_whole(
    tiny: BatchingEngine,
) -> None:
    cut = ask(PERSON, max_tokens=5, temperature=0.0)
    stopped = ask(PERSON, number=2, stop=('"age"',), temperature=0.0)
    ends = answers(tiny, cut, stopped)
    assert ends[1][1].reason is FinishReason.LENGTH
    assert ends[1][1].completion_tokens == 5
    assert ends[2][1].reason is FinishReason.STOP
    assert ends[2][0].rstrip().endswith(",")


def test_one_form_does_not_hold_for_the_others_in_the_batch(tiny: BatchingEngine) -> None:
    free = msgspec.structs.replace(ask(None, number=3, max_tokens=20, temperature=0.0), answer=None)
    alone = answers(tiny, free)[3][0]
    busy = answers(tiny, ask(PERSON, number=1, temperature=0.0), free)
    assert busy[3][0] == alone
    assert json.loads(busy[1][0])


def test_nothing_native_is_left_of_an_answer_that_ended_or_was_cancelled(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    model = LlamaModel(load_of(path), lambda _: None, NativeLog())
    engine = BatchingEngine(lambda *_: model, draw_seed=lambda: 1, now=lambda: Instant(0))
    engine.load(load_of(path), lambda _: None)
    try:
        answers(engine, ask(PERSON, temperature=0.0, max_tokens=3))
        engine.submit(ask(PERSON, number=2))
        engine.step(lambda: None)
        assert len(model._samplers._constraints) == 1
        engine.cancel(2)
        engine.step(lambda: None)
        assert model._samplers._constraints == {}
    finally:
        engine.close()


_THINKS = "{% for m in messages %}{{ m.content }}{% endfor %}<think>"


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")])
def test_a_model_that_is_told_to_think_does_until_it_says_that_it_is_done(
    tmp_path: Path, special: tuple[str, ...]
) -> None:
    template = _THINKS + "{# </think> #}"
    path = write_tiny_gguf(tmp_path / "tiny.gguf", chat_template=template, special=special)
    model = LlamaModel(load_of(path), lambda _: None, NativeLog())
    engine = BatchingEngine(lambda *_: model, draw_seed=lambda: 1, now=lambda: Instant(0))
    engine.load(load_of(path), lambda _: None)
    try:
        closing = model.vocabulary.tokenise("</think>", parse_special=True)
        # A tokeniser of this kind puts a space before text that begins.
        assert b"".join(map(model.piece, closing)).strip() == b"</think>"
        for number, schema in enumerate((None, PERSON)):
            engine.submit(ask(schema, number=number, max_tokens=9, temperature=0.0))
            *told, done = [report for report in drain(engine) if not isinstance(report, Started)]
            assert told
            assert all(isinstance(each, Delta) and each.is_thought for each in told)
            assert isinstance(done, Done)
            assert done.reasoning_tokens == done.completion_tokens == 9
    finally:
        engine.close()


def drain(engine: BatchingEngine) -> list[Report]:
    reports: list[Report] = []
    while engine.is_busy:
        reports += engine.step(lambda: None)
    return reports


@pytest.mark.slow
def test_a_real_model_describes_somebody() -> None:
    engine = open_llama_engine()
    engine.load(msgspec.structs.replace(load_of(smollm2()), threads=1), lambda _: None)
    try:
        ((text, done),) = answers(engine, ask(PERSON, temperature=0.0)).values()
        assert done.reason is FinishReason.STOP
        assert json.loads(text)["name"].isalpha()
    finally:
        engine.close()
