"""The batching engine when its model fails: every request still ends exactly once."""

from collections.abc import Callable, Iterable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import JsonAnswer, Message, Role, Sampling, Tool
from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad
from unified_llm.domain.units import Instant
from unified_llm.grammar.calls import CallForm
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine_port import Report
from unified_llm.worker.model_port import DecodeError
from unified_llm.worker.protocol import Chance, Delta, Done, Failed, Generate, Load, Score, Started
from unified_llm.worker.sampling import ResolvedSampling
from unified_llm.worker.slots import Feed, Seat
from unified_llm.worker.thinking import KNOWN_TAGS, Thinking

_LOAD = Load(model="m", path="", context_tokens=64, slots=2, threads=1)
_PIECE = b"\xc3\xa9"  # two bytes of one character, a token each


class FragileModel:
    """Checks what it is told, and fails as the outcomes say, one for each decode."""

    context_tokens = 64
    slots = 2
    batch_tokens = step_tokens = 6
    vocabulary_size = 2
    memory_bytes: int | None = None
    gpu_bytes: tuple[int, ...] = ()
    description = "fragile"
    thinking: Thinking | None = None
    call_form: CallForm | None = None

    def __init__(self, outcomes: Iterable[str] = (), *, can_truncate: bool = True) -> None:
        self.outcomes = list(outcomes)
        self.can_truncate = can_truncate
        self.memory: dict[int, list[int]] = {slot: [] for slot in range(self.slots)}
        self.sampled_after: dict[int, int] = {}
        self.begun: set[int] = set()
        self.computed = 0
        self.interrupted = 0
        self.broken_encode = False
        self.broken_begin = False
        self.refuses_grammars = False
        self.has_dead_end = False
        self.unseen: dict[int, Exception | None] = {}

    def constrain(self, slot: int, grammar: str, token: int) -> int:
        raise DecodeError("no grammar can be kept to")

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        begun: str = "",
        principal: str = "",
    ) -> list[int]:
        if self.broken_encode:
            raise DecodeError("no tokens")
        return [ord(each) for each in messages[-1].content]

    def ensure_grammar(self, grammar: str) -> None:
        if self.refuses_grammars:
            raise InvalidRequest("llama.cpp refuses the grammar.")

    def begin(
        self, seat: Seat, sampling: ResolvedSampling, prompt: Sequence[int], grammar: str | None
    ) -> int:
        if self.broken_begin:
            raise DecodeError("no sampler")
        assert seat.slot not in self.begun
        self.begun.add(seat.slot)
        source = seat.slot if seat.source is None else seat.source
        self.memory[seat.slot] = list(self.memory[source])
        if not self.truncate(seat.slot, seat.cached):
            return 0
        assert self.memory[seat.slot] == list(prompt[: seat.cached])
        return seat.cached

    def is_unseen(self, feed: Feed) -> bool:
        return feed.request_id in self.unseen

    def see(self, feed: Feed, should_stop: Callable[[], bool]) -> bool:
        if should_stop():
            return False
        error = self.unseen.pop(feed.request_id)
        if error is not None:
            raise error
        return True

    def decode(self, feeds: Sequence[Feed], should_stop: Callable[[], bool]) -> bool:
        outcome = self.outcomes.pop(0) if self.outcomes else "ok"
        if outcome == "error":
            raise DecodeError("broken")
        for feed in feeds:
            assert not self.is_unseen(feed)
            assert len(self.memory[feed.slot]) == feed.position
            self.memory[feed.slot] += feed.tokens + feed.draft
            self.sampled_after[feed.slot] = feed.end
            if outcome == "abort":
                return False  # the first one's tokens stay, as in a real context
        self.computed += sum(len(feed.tokens + feed.draft) for feed in feeds)
        return not should_stop()

    def interrupt(self) -> None:
        self.interrupted += 1

    def sample(self, slot: int) -> int:
        if self.has_dead_end:
            raise DecodeError("no token continues the grammar")
        return self.sampled_after[slot] % 2

    def advance(self, slot: int) -> None:
        self.sampled_after[slot] += 1

    def score(self, slot: int, token: int, top: int) -> Score:
        chance = Chance(text="", data=self.piece(token), logprob=-float(token))
        return Score(chosen=chance, top=(chance,) * top)

    def is_end(self, token: int) -> bool:
        return False

    def piece(self, token: int) -> bytes:
        return _PIECE[token : token + 1]

    def truncate(self, slot: int, position: int) -> bool:
        is_done = self.can_truncate or position in (0, len(self.memory[slot]))
        del self.memory[slot][position if is_done else 0 :]
        return is_done

    def state_bytes(self, slot: int) -> int:
        return len(self.memory[slot])

    def save_state(self, slot: int, room: memoryview) -> bool:
        room[:] = bytes(self.memory[slot])
        return True

    def restore_state(self, slot: int, state: memoryview) -> bool:
        self.memory[slot] = list(state)
        return True

    def end(self, slot: int) -> None:
        self.begun.discard(slot)

    def close(self) -> None:
        self.memory.clear()


def open_engine(model: FragileModel) -> BatchingEngine:
    """Loaded with a trial that went well; from then on the model fails as it was told to."""
    trial = FragileModel()
    trial.memory = model.memory
    models = iter([trial])
    engine = BatchingEngine(lambda *_: next(models), draw_seed=lambda: 1, now=lambda: Instant(0))
    engine.load(_LOAD, lambda _: None)
    assert not any(trial.memory.values()), "the trial has left something behind"
    engine._loaded = model
    return engine


@pytest.mark.parametrize("fault", ["error", "broken_encode", "broken_begin"])
def test_a_model_that_can_not_compute_a_token_is_not_loaded(fault: str) -> None:
    model = FragileModel(["error"] if fault == "error" else [])
    model.broken_encode = fault == "broken_encode"
    model.broken_begin = fault == "broken_begin"
    engine = BatchingEngine(lambda *_: model, draw_seed=lambda: 1, now=lambda: Instant(0))
    with pytest.raises(ModelFailedToLoad, match="trial request"):
        engine.load(_LOAD, lambda _: None)


def ask(number: int, text: str = "abcd", max_tokens: int = 6, principal: str = "uid:1") -> Generate:
    return Generate(
        id=number,
        principal=principal,
        messages=(Message(Role.USER, text),),
        max_tokens=max_tokens,
        stop=(),
        sampling=Sampling(),
    )


def run(engine: BatchingEngine) -> list[Report]:
    reports: list[Report] = []
    while engine.is_busy:
        reports += engine.step(lambda: None)
    return reports


@given(
    st.lists(st.sampled_from(["ok", "abort", "error"]), max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=20), min_size=1, max_size=5),
    st.booleans(),
)
def test_every_request_ends_exactly_once_whatever_fails(
    outcomes: list[str], texts: list[str], can_truncate: bool
) -> None:
    model = FragileModel(outcomes, can_truncate=can_truncate)
    engine = open_engine(model)
    for number, text in enumerate(texts):
        engine.submit(ask(number, text))
    reports = run(engine)
    for number in range(len(texts)):
        kinds = [type(report) for report in reports if report.id == number]
        assert kinds[0] is Started
        assert kinds[-1] in (Done, Failed)
        assert set(kinds[1:-1]) <= {Delta}
    assert model.begun == set()
    assert (engine.active, engine.waiting) == (0, 0)


_requests = st.lists(
    st.tuples(st.text("ab", min_size=1, max_size=20), st.sampled_from(["uid:1", "uid:2"])),
    min_size=1,
    max_size=8,
)


@given(_requests, st.lists(st.sampled_from(["ok", "abort", "error"]), max_size=30), st.booleans())
def test_tokens_reused_across_principals_are_none_and_those_reported_are_those_saved(
    asked: list[tuple[str, str]], outcomes: list[str], can_truncate: bool
) -> None:
    model = FragileModel(outcomes, can_truncate=can_truncate)
    engine = open_engine(model)
    seen: set[str] = set()
    for number, (text, principal) in enumerate(asked):
        before, failures = model.computed, len(model.outcomes)
        engine.submit(ask(number, text, principal=principal))
        reports = run(engine)
        is_first = principal not in seen
        seen.add(principal)
        started, done = reports[0], reports[-1]
        assert isinstance(started, Started)
        assert not is_first or started.cached_tokens == 0
        if isinstance(done, Done) and not failures:
            fed = done.prompt_tokens + done.completion_tokens - 1
            assert model.computed - before == fed - done.cached_tokens


@given(st.lists(st.sampled_from(["ok", "abort"]), max_size=20), st.booleans())
def test_aborted_steps_change_no_answer(outcomes: list[str], can_truncate: bool) -> None:
    def texts(model: FragileModel) -> dict[int, str]:
        engine = open_engine(model)
        for number, text in enumerate(("abcdefgh", "b")):
            engine.submit(ask(number, text))
        found = dict.fromkeys(range(2), "")
        for report in run(engine):
            if isinstance(report, Delta):
                found[report.id] += report.text
        return found

    assert texts(FragileModel(outcomes, can_truncate=can_truncate)) == texts(FragileModel())


def test_a_failed_step_is_internal_and_the_next_request_is_served() -> None:
    engine = open_engine(FragileModel(["error"]))
    engine.submit(ask(1))
    engine.submit(ask(2, principal="uid:2"))
    failed = [report for report in run(engine) if isinstance(report, Failed)]
    assert [(report.id, report.code) for report in failed] == [(1, "internal"), (2, "internal")]
    engine.submit(ask(3))
    assert isinstance(run(engine)[-1], Done)


def test_a_sampler_that_cannot_be_made_fails_only_its_request() -> None:
    model = FragileModel()
    engine = open_engine(model)
    model.broken_begin = True
    engine.submit(ask(1))
    (failed,) = run(engine)
    assert failed == Failed(id=1, code="internal", message="no sampler")
    model.broken_begin = False
    engine.submit(ask(2))
    assert isinstance(run(engine)[-1], Done)


def test_a_tokeniser_that_fails_fails_only_its_request() -> None:
    model = FragileModel()
    engine = open_engine(model)
    model.broken_encode = True
    engine.submit(ask(1))
    assert run(engine) == [Failed(id=1, code="internal", message="no tokens")]


def test_only_a_step_with_the_request_in_it_is_interrupted() -> None:
    model = FragileModel()
    engine = open_engine(model)
    engine.submit(ask(1))
    engine.submit(ask(2, principal="uid:2"))
    engine.submit(ask(3))
    engine.step(lambda: None)

    def interrupt_some() -> None:
        engine.interrupt(3)
        assert model.interrupted == 0  # it waits for a slot
        engine.interrupt(2)

    engine.step(interrupt_some)
    assert model.interrupted == 1
    engine.interrupt(1)
    assert model.interrupted == 1
    run(engine)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DecodeError("no picture"), "internal"),
        (InvalidRequest("no picture", parameter="messages"), "invalid-request"),
    ],
)
def test_a_picture_that_cannot_be_looked_at_fails_its_own_request_only(
    error: Exception, code: str
) -> None:
    model = FragileModel()
    engine = open_engine(model)
    for number in (1, 2):
        engine.submit(ask(number, principal=f"uid:{number}"))
    model.unseen = {1: error}
    ends = [each for each in run(engine) if isinstance(each, Done | Failed)]
    assert [each.id for each in ends] == [1, 2]
    assert isinstance(ends[0], Failed)
    assert (ends[0].code, ends[0].message) == (code, "no picture")
    assert isinstance(ends[1], Done)


def test_one_picture_is_looked_at_in_a_step_and_others_go_on() -> None:
    model = FragileModel()
    engine = open_engine(model)
    engine.submit(ask(1))
    engine.step(lambda: None)
    engine.step(lambda: None)
    computed = model.computed
    model.unseen = {1: None}
    engine.submit(ask(2, principal="uid:2"))
    engine.step(lambda: None)
    model.unseen[2] = None
    engine.step(lambda: None)
    assert len(model.unseen) == 1
    assert model.computed > computed
    engine.step(lambda: None)
    assert not model.unseen
    run(engine)


def test_a_cancel_of_anybody_ends_a_look_and_the_look_comes_again() -> None:
    model = FragileModel()
    engine = open_engine(model)
    for number in (1, 2, 3):
        engine.submit(ask(number, principal=f"uid:{number}"))
    engine.step(lambda: None)
    model.unseen = {1: None}

    def cancel_one_that_waits() -> None:
        engine.interrupt(3)
        engine.cancel(3)

    (failed,) = engine.step(cancel_one_that_waits)
    assert isinstance(failed, Failed)
    assert (failed.id, failed.code) == (3, "cancelled")
    assert model.unseen == {1: None}
    assert sum(isinstance(each, Done) for each in run(engine)) == 2


def test_what_a_broken_step_left_behind_serves_nobody() -> None:
    engine = open_engine(FragileModel(["ok", "error"]))
    engine.submit(ask(1))
    assert isinstance(run(engine)[-1], Failed)
    engine.submit(ask(2))
    started = run(engine)[0]
    assert started == Started(id=2, prompt_tokens=4, cached_tokens=0)


def test_a_model_that_cannot_go_back_says_so_in_the_usage() -> None:
    engine = open_engine(FragileModel(can_truncate=False))
    for number in (1, 2):
        engine.submit(ask(number))
        done = run(engine)[-1]
        assert isinstance(done, Done)
        assert done.cached_tokens == 0


def test_a_character_cut_by_the_end_of_the_answer_is_left_out() -> None:
    engine = open_engine(FragileModel())
    engine.submit(ask(1, "ab", max_tokens=3))
    texts = [report.text for report in run(engine) if isinstance(report, Delta)]
    assert texts == ["é"]


def test_an_id_in_use_is_refused_and_its_first_owner_goes_on() -> None:
    engine = open_engine(FragileModel())
    engine.submit(ask(1))
    engine.submit(ask(1))
    reports = run(engine)
    assert [report.code for report in reports if isinstance(report, Failed)] == ["invalid-request"]
    assert isinstance(reports[-1], Done)


def test_a_step_without_work_is_nothing() -> None:
    engine = open_engine(FragileModel())
    assert not engine.is_busy
    assert engine.step(lambda: None) == []
    assert engine.steps_done == 0


@pytest.mark.parametrize(
    ("schema", "reason"),
    [('{"not": {}}', "not a keyword"), ('{"type": "integer"}', "llama.cpp refuses the grammar")],
)
def test_a_form_that_cannot_be_kept_to_is_the_request_s_mistake(schema: str, reason: str) -> None:
    model = FragileModel()
    model.refuses_grammars = True
    engine = open_engine(model)
    engine.submit(msgspec.structs.replace(ask(1), answer=JsonAnswer(schema)))
    (failed,) = run(engine)
    assert isinstance(failed, Failed)
    assert failed.code == InvalidRequest.code
    assert reason in failed.message


def test_an_answer_that_no_token_continues_fails_alone() -> None:
    model = FragileModel()
    model.has_dead_end = True
    engine = open_engine(model)
    engine.submit(ask(1))
    *_, failed = run(engine)
    assert isinstance(failed, Failed)
    assert "no token continues" in failed.message
    model.has_dead_end = False
    engine.submit(ask(2))
    *_, done = run(engine)
    assert isinstance(done, Done)


class ThinkingModel(FragileModel):
    """Writes what it was told to, a character to a token."""

    thinking: Thinking | None = Thinking(KNOWN_TAGS[0], is_open=True)
    script = "Hm.</think>Yes!"

    def sample(self, slot: int) -> int:
        return self.sampled_after[slot] - len("abcd")

    def is_end(self, token: int) -> bool:
        return token == len(self.script)

    def piece(self, token: int) -> bytes:
        return self.script[token].encode()


def test_thoughts_are_told_apart_and_their_tokens_counted() -> None:
    engine = open_engine(ThinkingModel())
    engine.submit(ask(1, max_tokens=50))
    reports = run(engine)
    told = [report for report in reports if isinstance(report, Delta)]
    assert "".join(each.text for each in told if each.is_thought) == "Hm."
    assert "".join(each.text for each in told if not each.is_thought) == "Yes!"
    done = reports[-1]
    assert isinstance(done, Done)
    assert (done.completion_tokens, done.reasoning_tokens) == (15, 11)


def test_thoughts_that_are_cut_off_stay_thoughts() -> None:
    engine = open_engine(ThinkingModel())
    engine.submit(ask(1, max_tokens=5))
    *_, held, done = run(engine)
    assert held == Delta(id=1, text="</", is_thought=True)
    assert isinstance(done, Done)
    assert (done.completion_tokens, done.reasoning_tokens) == (5, 5)
