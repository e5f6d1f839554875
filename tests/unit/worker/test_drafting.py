"""Speculative decoding in the batching engine: the same text, in fewer steps."""

from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.worker.test_batching import FragileModel, ask, run
from unified_llm.domain.models import Speculation
from unified_llm.domain.units import Instant
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.drafting import Drafting
from unified_llm.worker.engine_port import Report
from unified_llm.worker.protocol import Delta, Done, Failed, Load
from unified_llm.worker.slots import Feed

_LOAD = Load(model="m", path="", context_tokens=64, slots=2, threads=1)
_LETTERS = "abcde"


class RepeatingModel(FragileModel):
    """Says one letter after the other, and the first again after the last.

    strangers: in places of so many tokens it jumps to another letter.
    """

    batch_tokens = step_tokens = 20
    vocabulary_size = 256

    def __init__(
        self, outcomes: Sequence[str] = (), *, can_truncate: bool = True, strangers: int = 7
    ) -> None:
        super().__init__(outcomes, can_truncate=can_truncate)
        self.strangers = strangers
        self.most_rows = 0

    def decode(self, feeds: Sequence[Feed], should_stop: Callable[[], bool]) -> bool:
        for feed in feeds:
            assert not feed.draft or feed.is_last
            assert feed.end + len(feed.draft) < self.context_tokens
        self.most_rows = max(self.most_rows, sum(len(each.tokens + each.draft) for each in feeds))
        return super().decode(feeds, should_stop)

    def sample(self, slot: int) -> int:
        place = self.sampled_after[slot]
        known = self.memory[slot][:place]
        if place % self.strangers == 0:
            return ord(_LETTERS[place // self.strangers % len(_LETTERS)])
        return ord(_LETTERS[(known[-1] - ord("a") + 1) % len(_LETTERS)])

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def is_end(self, token: int) -> bool:
        return token == ord("!")


def open_engine(model: RepeatingModel, mode: Speculation) -> BatchingEngine:
    ticks = iter(range(10**9))
    trial = RepeatingModel()
    trial.memory = model.memory
    models = iter([trial])
    engine = BatchingEngine(
        lambda *_: next(models), draw_seed=lambda: 1, now=lambda: Instant(next(ticks))
    )
    engine.load(msgspec.structs.replace(_LOAD, speculation=mode), lambda _: None)
    engine._loaded = model
    return engine


Asked = tuple[str, str, int]


def answers(
    model: RepeatingModel, mode: Speculation, asked: Sequence[Asked], stop: tuple[str, ...] = ()
) -> tuple[dict[int, str], dict[int, Done]]:
    """What is said when all ask at once, and how it ends."""
    engine = open_engine(model, mode)
    for number, (text, principal, most) in enumerate(asked):
        request = ask(number, text, max_tokens=most, principal=principal)
        engine.submit(msgspec.structs.replace(request, stop=stop))
    reports = run(engine)
    texts = dict.fromkeys(range(len(asked)), "")
    for report in reports:
        assert not isinstance(report, Failed)
        if isinstance(report, Delta):
            texts[report.id] += report.text
    assert model.begun == set()
    ensure_memory_is_what_is_remembered(engine, model)
    return texts, {each.id: each for each in reports if isinstance(each, Done)}


def ensure_memory_is_what_is_remembered(engine: BatchingEngine, model: RepeatingModel) -> None:
    for sequence in engine._slots._idle.values():
        assert model.memory[sequence.slot][: sequence.fed] == sequence.tokens
        assert len(model.memory[sequence.slot]) == sequence.fed


_asked = st.lists(
    st.tuples(
        st.text(_LETTERS, min_size=1, max_size=30),
        st.sampled_from(["uid:1", "uid:2"]),
        st.integers(1, 60),
    ),
    min_size=1,
    max_size=4,
)


@given(
    _asked,
    st.integers(2, 20),
    st.sampled_from([Speculation.AUTO, Speculation.PROMPT_LOOKUP]),
    st.sampled_from([(), ("ab",), ("aaa", "ce")]),
)
def test_drafts_change_nothing_that_is_said(
    asked: list[Asked], strangers: int, mode: Speculation, stop: tuple[str, ...]
) -> None:
    plain = RepeatingModel(strangers=strangers)
    drafted = RepeatingModel(strangers=strangers)
    expected, ends = answers(plain, Speculation.OFF, asked, stop)
    found, done = answers(drafted, mode, asked, stop)
    assert found == expected
    for number, end in ends.items():
        assert end.accepted_tokens == end.rejected_tokens == 0
        assert done[number].completion_tokens == end.completion_tokens
        assert done[number].reason == end.reason
        assert done[number].accepted_tokens <= end.completion_tokens


@given(_asked, st.lists(st.sampled_from(["ok", "ok", "abort"]), max_size=30), st.booleans())
def test_drafts_change_nothing_where_steps_are_aborted_or_memory_can_not_be_cut(
    asked: list[Asked], outcomes: list[str], can_truncate: bool
) -> None:
    expected, _ = answers(RepeatingModel(), Speculation.OFF, asked)
    model = RepeatingModel(outcomes, can_truncate=can_truncate)
    assert answers(model, Speculation.PROMPT_LOOKUP, asked)[0] == expected


@given(_asked, st.lists(st.sampled_from(["ok", "abort", "error"]), max_size=30), st.booleans())
def test_every_request_ends_exactly_once_whatever_fails(
    asked: list[Asked], outcomes: list[str], can_truncate: bool
) -> None:
    engine = open_engine(
        RepeatingModel(outcomes, can_truncate=can_truncate), Speculation.PROMPT_LOOKUP
    )
    for number, (text, principal, most) in enumerate(asked):
        engine.submit(ask(number, text, max_tokens=most, principal=principal))
    reports: list[Report] = run(engine)
    ends = [each.id for each in reports if isinstance(each, Done | Failed)]
    assert sorted(ends) == list(range(len(asked)))
    assert (engine.active, engine.waiting) == (0, 0)


def test_what_repeats_itself_takes_fewer_steps_and_they_are_counted() -> None:
    steps = {}
    for mode in (Speculation.OFF, Speculation.PROMPT_LOOKUP):
        engine = open_engine(RepeatingModel(strangers=1000), mode)
        engine.submit(ask(1, "abcdeabcdeabcde", max_tokens=40))
        done = run(engine)[-1]
        assert isinstance(done, Done)
        steps[mode] = (engine.steps_done, done.accepted_tokens, done.completion_tokens)
    assert steps[Speculation.OFF] == (40, 0, 40)
    count, accepted, completed = steps[Speculation.PROMPT_LOOKUP]
    assert count == completed - accepted < 20


def test_a_step_stays_within_its_budget_and_reads_prompts_without_drafts() -> None:
    model = RepeatingModel(strangers=1000)
    engine = open_engine(model, Speculation.PROMPT_LOOKUP)
    engine.submit(ask(1, "abcdeabcdeabcde", max_tokens=45))
    for _ in range(4):
        engine.step(lambda: None)
    assert model.most_rows > 2
    engine.submit(ask(2, "edcba" * 8, principal="uid:2"))
    engine.step(lambda: None)  # seats it
    model.most_rows = 0
    fed = model.computed
    engine.step(lambda: None)
    assert model.computed - fed == model.most_rows == model.batch_tokens
    run(engine)
    assert model.most_rows <= model.batch_tokens


def test_a_model_whose_memory_can_not_be_cut_drafts_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = RepeatingModel(can_truncate=False)
    ticks = iter(range(1000))
    engine = BatchingEngine(lambda *_: model, draw_seed=lambda: 1, now=lambda: Instant(next(ticks)))
    engine.load(
        msgspec.structs.replace(_LOAD, speculation=Speculation.PROMPT_LOOKUP), lambda _: None
    )
    assert "no tokens are drafted" in capsys.readouterr().err
    engine.submit(ask(1, "abcabcabcabc", max_tokens=40))
    done = run(engine)[-1]
    assert isinstance(done, Done)
    assert (done.accepted_tokens, done.rejected_tokens) == (0, 0)


def test_of_all_sequences_together_only_so_many_tokens_are_drafted() -> None:
    drafting = Drafting(Speculation.PROMPT_LOOKUP)
    for number in range(20):
        drafting.begin(number, [1, 2, 3, 4, 1, 2, 3])
    drafts = drafting.drafts(dict.fromkeys(range(20), 9))
    assert sum(map(len, drafts.values())) == 16
    assert drafting.drafts({0: 9}) == {0: (4, 1, 2, 3, 4, 1, 2, 3)}
    assert drafting.drafts({0: 2, 1: 0}) == {0: (4, 1)}
    drafting.end(0)
    assert drafting.drafts({0: 9}) == {}
