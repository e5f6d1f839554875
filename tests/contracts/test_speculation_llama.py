"""Speculative decoding by the real engine says what decoding without it says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from llama_cpp import llama_cpp as native

from tests.contracts import test_calls_llama as tools
from tests.contracts.test_engine_states_llama import recurrent, sliding
from tests.real_models import smollm2
from tests.tiny_gguf import write_tiny_gguf
from tests.tool_templates import HERMES
from unified_llm.domain.chat import (
    JsonAnswer,
    Message,
    Role,
    Sampling,
    ToolCall,
    ToolChoice,
    ToolUse,
)
from unified_llm.domain.models import Speculation
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine import LlamaModel, open_llama_engine
from unified_llm.worker.protocol import Delta, Done, Failed, Generate, Load, Score

_SLOTS = 4
_TEXT = (
    "The harbour master kept a ledger of every ship that came in. On Monday a brig landed casks of "
    "wine and a letter for the mayor. On Tuesday nothing came but fog."
)
_SCHEMA = '{"type": "array", "items": {"enum": ["ab", "abab"]}, "minItems": 12, "maxItems": 16}'


@dataclass
class Said:
    """What a request was answered with."""

    text: str = ""
    scores: list[Score] = field(default_factory=list)
    done: Done | None = None

    @property
    def end(self) -> Done:
        assert self.done is not None
        return self.done


def load_of(path: Path, mode: Speculation, context_tokens: int) -> Load:
    return Load(
        model="m",
        path=str(path),
        context_tokens=context_tokens,
        slots=_SLOTS,
        threads=1,
        speculation=mode,
    )


def ask(number: int, *messages: Message, max_tokens: int = 40, **more: Any) -> Generate:
    more = {"sampling": Sampling(temperature=0), "stop": (), "top_logprobs": 2, **more}
    return Generate(
        id=number, principal="uid:1000", messages=messages, max_tokens=max_tokens, **more
    )


def answers(engine: BatchingEngine, requests: Sequence[Generate]) -> dict[int, Said]:
    """What is said when all are asked at once."""
    found = {request.id: Said() for request in requests}
    for request in requests:
        engine.submit(request)
    while engine.is_busy:
        for report in engine.step(lambda: None):
            assert not isinstance(report, Failed)
            if isinstance(report, Delta):
                found[report.id].text += report.text
                found[report.id].scores += report.scores
            if isinstance(report, Done):
                found[report.id].done = report
    return found


def ensure_same(one: Said, other: Said) -> None:
    """The same, but where two tokens are as good as equally likely (docs/decisions/0007)."""
    for first, second in zip(one.scores, other.scores, strict=False):
        assert first.top[0].logprob == pytest.approx(second.top[0].logprob, abs=0.05)
        if first.chosen.text != second.chosen.text:
            assert first.top[0].logprob - first.top[1].logprob < 0.05
            return
    assert len(one.scores) == len(other.scores)
    assert one.text == other.text
    assert one.end.reason == other.end.reason
    assert one.end.completion_tokens == other.end.completion_tokens


_WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"sampling": Sampling(temperature=0.5, seed=3)},
    "penalised": {"sampling": Sampling(temperature=0, repeat_penalty=1.05)},
    "dry": {"sampling": Sampling(temperature=0, dry_multiplier=0.5, dry_allowed_length=8)},
    "mirostat": {"sampling": Sampling(temperature=0.5, mirostat=2, seed=5)},
    "xtc": {"sampling": Sampling(temperature=0.5, xtc_probability=0.3, seed=5)},
    "biased": {"sampling": Sampling(temperature=0, logit_bias=((70, 3.0),))},
    "stopped": {"stop": ("zz", "  ")},
    "one token": {"max_tokens": 1},
    "two tokens": {"max_tokens": 2},
    "json": {"answer": JsonAnswer(_SCHEMA), "max_tokens": 100},
    "json, drawn": {
        "answer": JsonAnswer(_SCHEMA),
        "max_tokens": 100,
        "sampling": Sampling(temperature=1.0, seed=9),
    },
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", context_tokens=256)


@pytest.fixture(params=[Speculation.PROMPT_LOOKUP, Speculation.AUTO])
def engines(tiny: Path, request: pytest.FixtureRequest) -> Iterator[tuple[BatchingEngine, ...]]:
    """Without drafts and with them."""
    both = []
    for mode in (Speculation.OFF, request.param):
        engine = open_llama_engine()
        engine.load(load_of(tiny, mode, 256), lambda _: None)
        both.append(engine)
    yield tuple(both)
    for engine in both:
        engine.close()


_PROMPT = Message(Role.USER, "tell me tell me tell me tell me")


def test_whatever_the_request_samples_by_the_text_is_the_same_alone_and_in_a_batch(
    engines: tuple[BatchingEngine, ...],
) -> None:
    plain, drafting = engines
    requests = [ask(number, _PROMPT, **more) for number, more in enumerate(_WAYS.values())]
    expected = {each.id: answers(plain, [each])[each.id] for each in requests}
    alone = {each.id: answers(drafting, [each])[each.id] for each in requests}
    together = answers(drafting, requests)
    for number, said in expected.items():
        assert said.end.accepted_tokens == said.end.rejected_tokens == 0
        ensure_same(alone[number], said)
        ensure_same(together[number], said)


def test_drafts_are_both_right_and_wrong_and_leave_nothing_wrong_in_memory(tiny: Path) -> None:
    engine = open_llama_engine()
    engine.load(load_of(tiny, Speculation.PROMPT_LOOKUP, 256), lambda _: None)
    try:
        said = answers(engine, [ask(n, _PROMPT, **way) for n, way in enumerate(_WAYS.values())])
        assert sum(each.end.accepted_tokens for each in said.values()) > 10
        assert sum(each.end.rejected_tokens for each in said.values()) > 10
        model = engine._model
        assert isinstance(model, LlamaModel)
        for kept in engine._slots.remembered():
            last = native.llama_memory_seq_pos_max(model._memory, kept.slot)
            assert last == len(kept.tokens) - 1
    finally:
        engine.close()


@pytest.mark.slow
def test_a_window_that_slides_on_while_drafts_come_and_go_changes_nothing(tmp_path: Path) -> None:
    """Its layers keep 768 tokens, so their cells are used again, after drafts too."""
    path = sliding().write_drawn(tmp_path)
    requests = [
        ask(
            number,
            _PROMPT,
            max_tokens=900,
            sampling=Sampling(temperature=temperature, seed=3, ignore_eos=True, top_k=4),
        )
        for number, temperature in enumerate((0.0, 0.3))
    ]
    said = {}
    for mode in (Speculation.OFF, Speculation.PROMPT_LOOKUP):
        engine = open_llama_engine()
        engine.load(load_of(path, mode, 1024), lambda _: None)
        try:
            said[mode] = answers(engine, requests)
        finally:
            engine.close()
    for number in (0, 1):
        drafted = said[Speculation.PROMPT_LOOKUP][number]
        assert drafted.end.accepted_tokens > 0
        ensure_same(drafted, said[Speculation.OFF][number])


@pytest.mark.parametrize("choice", [ToolChoice.AUTO, ToolChoice.REQUIRED])
def test_calls_are_the_same_where_they_begin_inside_a_draft(
    tmp_path: Path, choice: ToolChoice
) -> None:
    path = write_tiny_gguf(
        tmp_path / "tiny.gguf",
        context_tokens=2048,
        chat_template=HERMES,
        special=("<tool_call>",),
    )
    earlier = (
        Message(
            Role.ASSISTANT,
            "",
            tool_calls=(
                ToolCall("call_1", "get_weather", '{"city": "Oslo", "unit": "kelvin"}'),
                ToolCall("call_2", "get_weather", '{"city": "Rome", "unit": "kelvin"}'),
            ),
        ),
        Message(Role.TOOL, "cold", tool_call_id="call_1"),
        Message(Role.TOOL, "warm", tool_call_id="call_2"),
        Message(Role.USER, "And now?"),
    )
    said, accepted = [], 0
    for mode in (Speculation.OFF, Speculation.PROMPT_LOOKUP):
        engine = open_llama_engine()
        engine.load(load_of(path, mode, 2048), lambda _: None)
        try:
            model = engine._model
            assert isinstance(model, LlamaModel)
            (begins,) = model.vocabulary.tokenise("<tool_call>", parse_special=True)
            use = ToolUse(tools.TOOLS, choice)
            request = tools.ask(use, *earlier, seed=3, logit_bias=((begins, 12.0),))
            text, calls, end = tools.answer(engine, request)
            assert isinstance(end, Done)
            said.append((text, calls, end.reason, end.completion_tokens))
            accepted += end.accepted_tokens
        finally:
            engine.close()
    assert said[0] == said[1]
    assert said[0][1]
    assert accepted > 10


def test_a_model_that_can_take_no_token_back_drafts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = open_llama_engine()
    path = recurrent().write_drawn(tmp_path)
    engine.load(load_of(path, Speculation.PROMPT_LOOKUP, 256), lambda _: None)
    try:
        assert "no tokens are drafted" in capsys.readouterr().err
        sampling = Sampling(temperature=0, ignore_eos=True)
        end = answers(engine, [ask(1, _PROMPT, sampling=sampling)])[1].end
        assert end.completion_tokens == 40
        assert end.accepted_tokens == end.rejected_tokens == 0
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(temperature=0.7, seed=7)])
def test_a_real_model_that_quotes_its_prompt_says_the_same_in_fewer_steps(
    sampling: Sampling,
) -> None:
    quoting = (
        Message(Role.USER, f"Repeat this text: {_TEXT}"),
        Message(Role.ASSISTANT, _TEXT),
        Message(Role.USER, "Once more."),
    )
    free = Message(Role.USER, "Name three colours.")
    requests = [ask(1, *quoting, sampling=sampling), ask(2, free, sampling=sampling, max_tokens=12)]
    said, steps = {}, {}
    for mode in (Speculation.OFF, Speculation.PROMPT_LOOKUP):
        engine = open_llama_engine()
        engine.load(load_of(smollm2(), mode, 256), lambda _: None)
        try:
            said[mode] = answers(engine, requests)
            steps[mode] = engine.steps_done
        finally:
            engine.close()
    for number in (1, 2):
        ensure_same(said[Speculation.PROMPT_LOOKUP][number], said[Speculation.OFF][number])
    assert said[Speculation.PROMPT_LOOKUP][1].end.accepted_tokens > 20
    assert steps[Speculation.PROMPT_LOOKUP] < 0.7 * steps[Speculation.OFF]
