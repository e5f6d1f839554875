"""What every Engine of the worker keeps to, the real one and the fake one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tiny_gguf import Defect, write_tiny_gguf
from unified_llm.domain.chat import FinishReason, Message, Role, Sampling
from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.engine_port import Engine, Report
from unified_llm.worker.fake_engine import open_fake_engine
from unified_llm.worker.protocol import Delta, Done, Failed, Generate, Load, Score, Started

_CONTEXT = 512
_SLOTS = 3
_ENGINES: dict[str, Callable[[], Engine]] = {
    "fake": open_fake_engine,
    "llama": open_llama_engine,
}
_WORDS = "alpha beta gamma delta epsilon zeta"


def load_of(path: Path, *, slots: int = _SLOTS, context_tokens: int = _CONTEXT) -> Load:
    return Load(model="m", path=str(path), context_tokens=context_tokens, slots=slots, threads=1)


def generate(
    number: int,
    text: str = _WORDS,
    *,
    max_tokens: int | None = 12,
    stop: tuple[str, ...] = (),
    sampling: Sampling | None = None,
    principal: str = "uid:1000",
) -> Generate:
    return Generate(
        id=number,
        principal=principal,
        messages=(Message(Role.USER, text),),
        max_tokens=max_tokens,
        stop=stop,
        sampling=sampling or Sampling(temperature=0),
    )


def run(engine: Engine) -> list[Report]:
    """Everything that is reported until nothing is left to do."""
    reports: list[Report] = []
    while engine.is_busy:
        reports += engine.step(lambda: None)
    return reports


def of(number: int, reports: list[Report]) -> list[Report]:
    return [report for report in reports if report.id == number]


def text_of(reports: list[Report]) -> str:
    return "".join(report.text for report in reports if isinstance(report, Delta))


@pytest.fixture(params=_ENGINES)
def unloaded(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = _ENGINES[request.param]()
    yield engine
    engine.close()


@pytest.fixture
def engine(unloaded: Engine, tmp_path: Path) -> Engine:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=_CONTEXT)
    loaded = unloaded.load(load_of(path), lambda _: None)
    assert (loaded.context_tokens, loaded.slots) == (_CONTEXT, _SLOTS)
    assert loaded.memory_bytes is not None
    assert loaded.memory_bytes >= path.stat().st_size * 0.9
    assert loaded.description
    return unloaded


def test_loading_reports_progress_to_the_end(unloaded: Engine, tmp_path: Path) -> None:
    fractions: list[float] = []
    unloaded.load(load_of(write_tiny_gguf(tmp_path / "tiny.gguf")), fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_what_is_no_model_is_refused(unloaded: Engine, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "bad.gguf", defect=Defect.MAGIC)
    with pytest.raises(ModelFailedToLoad):
        unloaded.load(load_of(path), lambda _: None)


def test_a_missing_file_is_refused(unloaded: Engine, tmp_path: Path) -> None:
    with pytest.raises(ModelFailedToLoad):
        unloaded.load(load_of(tmp_path / "none.gguf"), lambda _: None)


@pytest.mark.parametrize(("slots", "context_tokens"), [(0, 64), (-1, 64), (1, 0)])
def test_a_context_that_makes_no_sense_is_refused(
    unloaded: Engine, tmp_path: Path, slots: int, context_tokens: int
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(ModelFailedToLoad):
        unloaded.load(load_of(path, slots=slots, context_tokens=context_tokens), lambda _: None)


def test_an_answer_is_started_then_text_then_done(engine: Engine) -> None:
    engine.submit(generate(1, max_tokens=4))
    first, *middle, last = run(engine)
    assert isinstance(first, Started)
    assert middle
    assert all(isinstance(report, Delta) and report.text for report in middle)
    assert isinstance(last, Done)
    assert (last.reason, last.completion_tokens) == (FinishReason.LENGTH, 4)
    assert last.prompt_tokens == first.prompt_tokens > 0


def test_it_is_told_that_a_request_has_started_before_it_is_computed(engine: Engine) -> None:
    engine.submit(generate(1))
    assert [type(report) for report in engine.step(lambda: None)] == [Started]
    assert engine.steps_done == 0


def test_requests_are_answered_together(engine: Engine) -> None:
    for number in range(_SLOTS):
        engine.submit(generate(number, f"{_WORDS} {number}", principal=f"uid:{number}"))
    engine.step(lambda: None)
    assert (engine.active, engine.waiting) == (_SLOTS, 0)
    together = run(engine)
    order = [report.id for report in together if isinstance(report, Delta)]
    assert order[:_SLOTS] != [order[0]] * _SLOTS
    assert sum(isinstance(report, Done) for report in together) == _SLOTS


def test_an_answer_does_not_depend_on_who_else_is_answered(engine: Engine) -> None:
    engine.submit(generate(0))
    alone = text_of(run(engine))
    for number, text in ((1, "x" * 40), (2, _WORDS), (3, "entirely different words")):
        engine.submit(generate(number, text))
    assert text_of(of(2, run(engine))) == alone


def test_nothing_of_a_request_is_left_for_the_next_one(engine: Engine) -> None:
    engine.submit(generate(0))
    fresh = text_of(run(engine))
    for number in range(1, 7):
        engine.submit(generate(number, "something else " * number))
    run(engine)
    engine.submit(generate(9))
    assert text_of(run(engine)) == fresh


def cached_of(reports: list[Report]) -> int:
    """As said in the beginning, and again in the end."""
    started, done = reports[0], reports[-1]
    assert isinstance(started, Started)
    assert isinstance(done, Done)
    assert started.cached_tokens == done.cached_tokens
    return done.cached_tokens


def test_the_beginning_that_a_principal_s_requests_share_is_computed_once(engine: Engine) -> None:
    engine.submit(generate(0))
    first = run(engine)
    engine.submit(generate(1))
    again = run(engine)
    assert cached_of(first) == 0
    done = again[-1]
    assert isinstance(done, Done)
    assert cached_of(again) == done.prompt_tokens - 1
    assert text_of(again) == text_of(first)


def test_an_answer_is_the_same_with_and_without_reuse(engine: Engine) -> None:
    shared = "!tokens 12 " + "one common beginning of every question " * 8
    texts = [shared + ending for ending in ("a", "b and more", "c")]
    fresh = []
    for number, text in enumerate(texts):
        engine.submit(generate(number, text, principal=f"uid:{number}"))
        fresh.append(run(engine))
    assert [cached_of(each) for each in fresh] == [0, 0, 0]
    for number, text in enumerate(texts):
        engine.submit(generate(10 + number, text))
    together = run(engine)  # where one waits for the other's prompt
    for number, text in enumerate(texts):
        engine.submit(generate(20 + number, text))
        later = run(engine)
        assert cached_of(later) > 40
        assert text_of(later) == text_of(fresh[number])
        assert text_of(of(10 + number, together)) == text_of(fresh[number])
    assert sum(cached_of(of(10 + number, together)) > 40 for number in range(3)) == 2


def test_tokens_reused_across_principals_are_none(engine: Engine) -> None:
    for number in range(4 * _SLOTS):
        engine.submit(generate(number, principal=f"uid:{number}"))
    reports = run(engine)
    for number in range(4 * _SLOTS):
        assert cached_of(of(number, reports)) == 0


def test_who_finds_no_slot_waits_and_order_is_kept(engine: Engine) -> None:
    for number in range(8):
        engine.submit(generate(number, max_tokens=2))
    reports = run(engine)
    assert [report.id for report in reports if isinstance(report, Started)] == list(range(8))
    assert sorted(report.id for report in reports if isinstance(report, Done)) == list(range(8))


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(engine: Engine) -> None:
    engine.submit(generate(0))
    whole = text_of(run(engine))
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    engine.submit(generate(1, stop=(stop, "never met")))
    reports = run(engine)
    assert text_of(reports) == whole[: whole.index(stop)]
    done = reports[-1]
    assert isinstance(done, Done)
    assert done.reason is FinishReason.STOP


def scores_of(reports: list[Report]) -> list[Score]:
    return [score for each in reports if isinstance(each, Delta) for score in each.scores]


@pytest.mark.parametrize("top", [0, 1, 20])
def test_each_token_is_told_with_its_chance_and_the_likeliest_ones(
    engine: Engine, top: int
) -> None:
    engine.submit(replace(generate(0), top_logprobs=top))
    reports = run(engine)
    scores, done = scores_of(reports), reports[-1]
    assert isinstance(done, Done)
    assert len(scores) == done.completion_tokens
    told = b"".join(score.chosen.data or b"" for score in scores)
    assert told.decode() == text_of(reports)
    for score in scores:
        assert len(score.top) == top
        assert score.chosen.logprob <= 0
        chances = [each.logprob for each in score.top]
        assert chances == sorted(chances, reverse=True)
        # Greedily the likeliest is chosen.
        assert not top or score.top[0] == score.chosen


def test_chances_that_nobody_asked_for_are_not_told(engine: Engine) -> None:
    engine.submit(generate(0))
    assert scores_of(run(engine)) == []


def test_no_chance_is_told_of_a_token_that_lies_in_a_stop_text(engine: Engine) -> None:
    engine.submit(generate(0))
    whole = text_of(run(engine))
    engine.submit(replace(generate(1, stop=(whole[3:],)), top_logprobs=0))
    reports = run(engine)
    assert text_of(reports) == whole[:3]
    told = [score.chosen.data or b"" for score in scores_of(reports)]
    assert b"".join(told[:-1]).decode() in whole[:3]  # the last one may begin before the stop text
    assert b"".join(told).decode().startswith(whole[:3])


def test_an_answer_ends_with_the_context(engine: Engine) -> None:
    engine.submit(generate(0, "!tokens 5000 x", max_tokens=None))
    done = run(engine)[-1]
    assert isinstance(done, Done)
    assert done.reason is FinishReason.LENGTH
    assert done.prompt_tokens + done.completion_tokens == _CONTEXT


def test_a_prompt_longer_than_the_context_is_refused_with_numbers(engine: Engine) -> None:
    engine.submit(generate(0, "a b " * _CONTEXT))
    (failed,) = run(engine)
    assert isinstance(failed, Failed)
    assert failed.code == "too-large"
    assert str(_CONTEXT) in failed.message


def test_a_huge_prompt_is_refused_before_it_is_tokenised(engine: Engine) -> None:
    engine.submit(generate(0, "a" * 5_000_000))
    (failed,) = run(engine)
    assert isinstance(failed, Failed)
    assert failed.code == "too-large"
    assert "5000000 bytes" in failed.message


@pytest.mark.parametrize(
    "request_",
    [
        generate(0, max_tokens=0),
        generate(0, stop=("",)),
        replace(generate(0), top_logprobs=21),
        replace(generate(0), top_logprobs=-1),
        generate(0, sampling=Sampling(logit_bias=((2**31 - 1, float("nan")),))),
        generate(0, stop=("x",) * 5),
        generate(0, stop=("x" * 65,)),
        generate(0, sampling=Sampling(temperature=-0.1)),
        generate(0, sampling=Sampling(temperature=float("nan"))),
        generate(0, sampling=Sampling(top_p=0.0)),
        generate(0, sampling=Sampling(top_k=-1)),
        generate(0, sampling=Sampling(repeat_penalty=float("inf"))),
        generate(0, sampling=Sampling(seed=2**32)),
        Generate(id=0, principal="u", messages=(), max_tokens=1, stop=(), sampling=Sampling()),
    ],
)
def test_a_request_out_of_range_is_refused_alone(engine: Engine, request_: Generate) -> None:
    engine.submit(request_)
    engine.submit(generate(1, max_tokens=2))
    reports = run(engine)
    (failed,) = of(0, reports)
    assert isinstance(failed, Failed)
    assert failed.code == "invalid-request"
    assert isinstance(reports[-1], Done)


def test_a_cancelled_request_ends_and_the_others_go_on(engine: Engine) -> None:
    for number in range(5):
        engine.submit(generate(number))
    engine.step(lambda: None)
    engine.step(lambda: None)
    engine.cancel(1)  # in a slot
    engine.cancel(4)  # waiting
    reports = run(engine)
    for number in (1, 4):
        last = of(number, reports)[-1]
        assert isinstance(last, Failed)
        assert last.code == "cancelled"
    assert sorted(report.id for report in reports if isinstance(report, Done)) == [0, 2, 3]


def test_a_cancel_for_nobody_is_no_error(engine: Engine) -> None:
    engine.interrupt(1)
    engine.cancel(1)
    assert not engine.is_busy
    engine.submit(generate(1, max_tokens=2))
    assert isinstance(run(engine)[-1], Done)


def test_a_paused_request_waits_with_its_slot_and_the_others_go_on(engine: Engine) -> None:
    engine.submit(generate(0, principal="uid:0"))
    alone = text_of(run(engine))
    for number in (1, 2):
        engine.submit(generate(number, principal=f"uid:{number}"))
    begun = [report for _ in range(4) for report in engine.step(lambda: None)]
    assert of(1, begun)
    engine.pause(1)
    engine.submit(generate(3))
    meanwhile = run(engine)
    assert of(1, meanwhile) == []
    assert [report.id for report in meanwhile if isinstance(report, Done)] == [2, 3]
    assert (engine.active, engine.is_busy) == (1, False)
    engine.resume(1)
    assert text_of(of(1, begun) + run(engine)) == alone


def test_a_paused_request_ends_when_cancelled(engine: Engine) -> None:
    engine.submit(generate(1))
    engine.step(lambda: None)
    engine.pause(1)
    assert run(engine) == []
    engine.cancel(1)
    (failed,) = run(engine)
    assert isinstance(failed, Failed)
    assert failed.code == "cancelled"
    engine.submit(generate(1, max_tokens=2))
    assert isinstance(run(engine)[-1], Done)


def test_pausing_nobody_is_no_error(engine: Engine) -> None:
    engine.pause(1)
    engine.resume(2)
    engine.submit(generate(1, max_tokens=2))
    assert isinstance(run(engine)[-1], Done)


def test_an_interrupted_step_ends_early_and_spares_the_others(engine: Engine) -> None:
    engine.submit(generate(0, "!step 0.05 " + _WORDS))
    expected = text_of(run(engine))
    engine.submit(generate(1, "!step 0.05 " + _WORDS))
    engine.submit(generate(2, "!step 0.05 " + "z" * 300))
    engine.step(lambda: None)
    looks = 0

    def interrupt_soon() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            engine.interrupt(2)

    reports = engine.step(interrupt_soon)
    assert looks == 3
    (failed,) = reports
    assert isinstance(failed, Failed)
    assert (failed.id, failed.code) == (2, "cancelled")
    engine.cancel(2)
    assert text_of(of(1, run(engine))) == expected
