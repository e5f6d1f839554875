from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.test_engine import generate
from unified_llm.domain.profile import Purpose
from unified_llm.worker.embedding import STEP_TEXTS, EncodingEngine
from unified_llm.worker.engine_port import Report, Request
from unified_llm.worker.fake_encoder import open_engine
from unified_llm.worker.protocol import (
    MAX_NUMBERS,
    Done,
    Embed,
    Failed,
    Load,
    Rank,
    Started,
    Vector,
)

_CONTEXT = 600


def load_of(path: Path, purpose: Purpose) -> Load:
    return Load(
        model="m",
        path=str(path),
        context_tokens=_CONTEXT,
        slots=2,
        threads=1,
        purpose=purpose,
    )


@pytest.fixture(params=[Purpose.EMBEDDING])
def engine(request: Any, tmp_path: Path) -> Iterator[EncodingEngine]:
    opened = open_engine(request.param, sleep=lambda _: None)
    assert isinstance(opened, EncodingEngine)
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    loaded = opened.load(load_of(path, request.param), lambda _: None)
    assert (loaded.context_tokens, loaded.slots) == (_CONTEXT, 2)
    yield opened
    opened.close()


def words(count: int) -> str:
    return " ".join(["w"] * count)


def submit(engine: EncodingEngine, *requests: Request) -> None:
    for request in requests:
        engine.submit(request)


def run(engine: EncodingEngine) -> list[Report]:
    reports: list[Report] = []
    while engine.is_busy:
        reports += engine.step(lambda: None)
    return reports


def vectors_of(number: int, reports: list[Report]) -> list[bytes]:
    return [each.numbers for each in reports if isinstance(each, Vector) and each.id == number]


def test_a_request_is_started_then_answered_in_the_order_of_its_texts(
    engine: EncodingEngine,
) -> None:
    texts = ("one", "two words", "one")
    submit(engine, Embed(id=1, texts=texts))
    assert engine.step(lambda: None) == [Started(id=1, prompt_tokens=4, cached_tokens=0)]
    assert (engine.steps_done, engine.active, engine.waiting) == (0, 1, 0)
    *vectors, done = run(engine)
    assert isinstance(done, Done)
    assert (done.prompt_tokens, done.completion_tokens) == (4, 0)
    first, second, third = vectors_of(1, vectors)
    assert first == third != second


def test_the_texts_of_several_requests_share_a_step(engine: EncodingEngine) -> None:
    submit(engine, Embed(id=1, texts=("a", "b")), Embed(id=2, texts=("c",)))
    engine.step(lambda: None)
    reports = engine.step(lambda: None)
    assert [each.id for each in reports if isinstance(each, Vector)] == [1, 2, 1]
    assert engine.steps_done == 1
    assert not engine.is_busy


def test_many_texts_of_one_request_do_not_hold_up_another(engine: EncodingEngine) -> None:
    submit(engine, Embed(id=1, texts=("a",) * (5 * STEP_TEXTS)))
    engine.step(lambda: None)
    engine.step(lambda: None)
    submit(engine, Embed(id=2, texts=("b",)))
    engine.step(lambda: None)
    reports = engine.step(lambda: None)
    assert len(reports) == STEP_TEXTS + 1
    assert any(isinstance(each, Done) and each.id == 2 for each in reports)
    assert len(vectors_of(1, run(engine))) == 5 * STEP_TEXTS - STEP_TEXTS - (STEP_TEXTS - 1)


def test_a_text_longer_than_the_usual_step_is_computed_alone(engine: EncodingEngine) -> None:
    submit(
        engine,
        Embed(id=1, texts=(" ".join(["w"] * _CONTEXT), "x")),
        Embed(id=2, texts=("y " * 500, "z")),
    )
    reports = run(engine)
    assert [len(vectors_of(number, reports)) for number in (1, 2)] == [2, 2]


def test_each_request_gets_its_turn_whatever_the_others_send(engine: EncodingEngine) -> None:
    long = "w " * 500
    submit(engine, *(Embed(id=number, texts=(long,) * 3) for number in range(4)))
    engine.step(lambda: None)
    firsts = [engine.step(lambda: None)[0].id for _ in range(8)]
    assert firsts == [0, 1, 2, 3, 0, 1, 2, 3]
    run(engine)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [(" ".join(["w"] * (_CONTEXT + 1)), "601 tokens"), ("w" * 9601, "9601 bytes")],
)
def test_a_text_too_long_is_refused_with_numbers_and_never_cut(
    engine: EncodingEngine, text: str, numbers: str
) -> None:
    submit(engine, Embed(id=1, texts=("fine", text)))
    (failed,) = run(engine)
    assert isinstance(failed, Failed)
    assert failed.code == "too-large"
    assert failed.message.startswith("Text 1 has")
    assert numbers in failed.message
    assert "600" in failed.message


def test_dimensions_are_cut_but_not_invented(engine: EncodingEngine) -> None:
    submit(engine, Embed(id=1, texts=("a",), dimensions=3), Embed(id=2, texts=("a",), dimensions=9))
    reports = run(engine)
    assert len(vectors_of(1, reports)[0]) == 3 * 4
    (failed,) = [each for each in reports if isinstance(each, Failed)]
    assert (failed.id, failed.code) == (2, "invalid-request")
    assert "9" in failed.message
    assert "8" in failed.message


def test_more_numbers_than_the_daemon_takes_are_refused(
    engine: EncodingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._encoder, "dimensions", MAX_NUMBERS // 2)
    submit(engine, Embed(id=1, texts=("a", "b", "c")))
    (failed,) = run(engine)
    assert isinstance(failed, Failed)
    assert (failed.code, "at most 2 texts" in failed.message) == ("too-large", True)


def test_text_is_not_generated(engine: EncodingEngine) -> None:
    submit(engine, generate(1))
    (failed,) = run(engine)
    assert isinstance(failed, Failed)
    assert failed.code == "invalid-request"


@pytest.mark.parametrize("engine", [Purpose.RANKING], indirect=True)
def test_documents_get_a_score_each(engine: EncodingEngine) -> None:
    submit(engine, Rank(id=1, query="blue sky", documents=("the sky", "a dog", "sky, blue")))
    scores = vectors_of(1, run(engine))
    assert [len(score) for score in scores] == [4, 4, 4]
    assert scores[2] > scores[0] > scores[1]  # 1.0, 0.5 and 0.0, whose bytes are in that order


def test_a_cancelled_request_ends_and_the_others_go_on(engine: EncodingEngine) -> None:
    submit(engine, Embed(id=1, texts=("a",) * 50), Embed(id=2, texts=("b",) * 50))
    engine.step(lambda: None)
    engine.step(lambda: None)
    engine.cancel(1)
    engine.cancel(9)
    reports = run(engine)
    failed = reports[0]
    assert isinstance(failed, Failed)
    assert (failed.id, failed.code) == (1, "cancelled")
    assert {each.id for each in reports[1:]} == {2}
    assert isinstance(reports[-1], Done)


def test_an_interrupted_step_is_done_again_without_the_one_that_left(
    engine: EncodingEngine,
) -> None:
    submit(engine, Embed(id=1, texts=("a",)), Embed(id=2, texts=("!step 5 b",)))
    engine.step(lambda: None)

    def interrupt() -> None:
        engine.interrupt(2)

    (failed,) = engine.step(interrupt)
    assert failed.id == 2
    engine.cancel(2)
    assert len(vectors_of(1, run(engine))) == 1


def test_the_same_number_twice_is_refused(engine: EncodingEngine) -> None:
    submit(engine, Embed(id=1, texts=("a",)), Embed(id=1, texts=("b",)))
    assert any(isinstance(each, Failed) for each in run(engine))


def test_one_in_a_hurry_computes_nothing_more(engine: EncodingEngine) -> None:
    submit(engine, Embed(id=1, texts=("a",)))
    engine.step(lambda: None)
    engine.hurry()
    assert engine.step(lambda: None) == []
    engine.save_states()
    engine.drop_state(1)
    assert engine.is_busy
