"""LoRA adapters on the real engine: each request gets its own, whatever runs beside it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.contracts.test_engine_llama import answer, ask, scores_of_all
from tests.fakes.state_daemon import FakeStateDaemon
from tests.lora import TINY, write_lora
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.chat import Message, Role
from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.models import Speculation
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.protocol import (
    AdapterFile,
    Chance,
    Delta,
    Failed,
    Generate,
    Load,
    Loaded,
    Score,
)

_STORY = "a fox meets a river and " * 6
_NAMES = (None, "law", "poetry")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapted")
    write_tiny_gguf(folder / "tiny.gguf", context_tokens=512)
    write_lora(folder / "law.gguf", seed=1)
    write_lora(folder / "poetry.gguf", seed=2)
    return folder


def load_of(folder: Path, *names: str, scale: float = 1.0, slots: int = 4) -> Load:
    return Load(
        model="m",
        path=str(folder / "tiny.gguf"),
        context_tokens=512,
        slots=slots,
        threads=1,
        adapters=tuple(
            AdapterFile(name=each, path=str(folder / f"{each}.gguf"), scale=scale) for each in names
        ),
    )


@contextmanager
def open_engine(load: Load, states: KeptStates | None = None) -> Iterator[BatchingEngine]:
    engine = open_llama_engine(states)
    try:
        engine.load(load, lambda _: None)
        yield engine
        engine.save_states()
    finally:
        engine.close()


@pytest.fixture
def engine(folder: Path) -> Iterator[BatchingEngine]:
    with open_engine(load_of(folder, "law", "poetry")) as engine:
        yield engine


def say(text: str, adapter: str | None, number: int = 1, principal: str = "uid:1") -> Generate:
    request = ask(Message(Role.USER, text), number=number)
    return msgspec.structs.replace(request, adapter=adapter, principal=principal, top_logprobs=2)


def scores_of(engine: BatchingEngine, request: Generate) -> list[Score]:
    return scores_of_all(engine, [request])[request.id]


def assert_same(one: Sequence[Score], other: Sequence[Score]) -> None:
    """The same, up to where the two best are so close that kernels decide (decision 0007)."""
    for each, counterpart in zip(one, other, strict=True):
        assert each.top[0].logprob == pytest.approx(counterpart.top[0].logprob, abs=1e-2)
        if each.chosen.text != counterpart.chosen.text:
            assert each.top[0].logprob - each.top[1].logprob < 1e-2
            return


def test_each_adapter_answers_in_its_own_way_and_none_leaves_a_trace(
    engine: BatchingEngine, folder: Path
) -> None:
    asked = [say("hello", name, number) for number, name in enumerate((*_NAMES, *_NAMES))]
    texts = [answer(engine, each)[0] for each in asked]
    assert len(set(texts)) == 3
    assert texts[:3] == texts[3:]
    with open_engine(load_of(folder)) as plain:
        assert texts[0] == answer(plain, asked[0])[0]


@pytest.mark.parametrize("speculation", [Speculation.OFF, Speculation.PROMPT_LOOKUP])
def test_answers_are_the_same_alone_and_beside_others(
    engine: BatchingEngine, folder: Path, speculation: Speculation
) -> None:
    asked = [
        say(text, name, number, principal=f"uid:{number}")
        for number, (text, name) in enumerate(
            [("hello", None), ("hello", "law"), (_STORY, "poetry"), ("tell me", "law")]
        )
    ]
    alone = [scores_of(engine, each) for each in asked]
    beside = [
        msgspec.structs.replace(each, id=10 + each.id, principal=f"{each.principal}b")
        for each in asked
    ]
    load = msgspec.structs.replace(load_of(folder, "law", "poetry"), speculation=speculation)
    with open_engine(load) as busy:
        together = scores_of_all(busy, beside)
    for scores, request in zip(alone, beside, strict=True):
        assert len(scores) == 24
        assert_same(scores, together[request.id])


def test_the_scale_decides_how_much_is_changed(folder: Path) -> None:
    found = []
    for scale in (1e-6, 0.5, 1.0):
        with open_engine(load_of(folder, "law", scale=scale)) as engine:
            plain, adapted = (scores_of(engine, say("hello", each)) for each in (None, "law"))
            found.append(abs(plain[0].chosen.logprob - _chance_of(plain[0].chosen, adapted[0])))
    assert found[0] < 1e-3 < found[1]
    assert len({round(each, 3) for each in found}) == 3


def _chance_of(token: Chance, score: Score) -> float:
    same = [each.logprob for each in score.top if each.text == token.text]
    return same[0] if same else -100.0


def test_what_was_computed_with_one_adapter_spares_only_that_one(engine: BatchingEngine) -> None:
    _, first = answer(engine, say(_STORY, "law", 1))
    assert first.cached_tokens == 0
    _, other = answer(engine, say(_STORY, None, 2))
    assert other.cached_tokens == 0
    fresh, _ = answer(engine, say(_STORY, "poetry", 3, "uid:2"))
    reused, again = answer(engine, say(_STORY, "law", 4))
    assert again.cached_tokens == again.prompt_tokens - 1
    assert reused != fresh


def test_a_kept_state_goes_on_with_its_own_adapter(folder: Path) -> None:
    daemon = FakeStateDaemon()
    try:
        load = load_of(folder, "law", "poetry")
        with daemon.open_states() as states, open_engine(load, states) as engine:
            expected, _ = answer(engine, say(_STORY, "law"))
        with daemon.open_states() as states, open_engine(load, states) as engine:
            for number, name in enumerate((None, "poetry")):
                assert answer(engine, say(_STORY, name, number))[1].cached_tokens == 0
            text, done = answer(engine, say(_STORY, "law", 9))
        assert done.cached_tokens == done.prompt_tokens - 1
        assert text == expected
    finally:
        daemon.close()


def test_an_adapter_that_was_not_loaded_is_refused_with_those_that_were(
    engine: BatchingEngine, folder: Path
) -> None:
    engine.submit(say("hello", "prose"))
    (failed,) = engine.step(lambda: None)
    assert isinstance(failed, Failed)
    assert (failed.code, failed.parameter) == ("invalid-request", "model")
    assert "without the adapter prose; it has law, poetry" in failed.message
    with open_engine(load_of(folder)) as plain:
        plain.submit(say("hello", "law"))
        (failed,) = plain.step(lambda: None)
    assert isinstance(failed, Failed)
    assert "it has none" in failed.message


def test_adapters_are_counted_in_the_memory_of_their_model(folder: Path, tmp_path: Path) -> None:
    def took(*names: str) -> int:
        engine = open_llama_engine()
        loaded: Loaded = engine.load(load_of(folder, *names), lambda _: None)
        engine.close()
        return loaded.memory_bytes or 0

    rank = 512
    write_lora(folder / "wide.gguf", rank=rank)
    size = sum(4 * rank * (width + height) for width, height in TINY.values())
    # What the log says is rounded to a hundredth of a MiB.
    assert took("wide") - took() == pytest.approx(size, abs=2**15)


def test_an_adapter_of_another_model_is_refused_without_telling_its_path(folder: Path) -> None:
    write_lora(folder / "other.gguf", {"blk.0.attn_q.weight": (64, 32)})
    with pytest.raises(ModelFailedToLoad, match=r"refuses the adapter other: .*shape") as refusal:
        open_llama_engine().load(load_of(folder, "other"), lambda _: None)
    assert str(folder) not in refusal.value.message
    (folder / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelFailedToLoad, match="refuses the adapter broken"):
        open_llama_engine().load(load_of(folder, "broken"), lambda _: None)


def test_a_request_is_cancelled_in_the_turn_of_another_adapter(engine: BatchingEngine) -> None:
    for number, name in enumerate(("law", "poetry")):
        engine.submit(say("hello", name, number, principal=f"uid:{number}"))
    while not any(isinstance(each, Delta) for each in engine.step(lambda: None)):
        pass
    engine.cancel(1)
    ended = []
    while engine.is_busy:
        ended += [each.id for each in engine.step(lambda: None) if isinstance(each, Failed)]
    assert ended == [1]
