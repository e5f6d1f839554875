"""What every Engine keeps to when conversations are kept from one worker to the next."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contracts.test_engine import generate, load_of, run, text_of
from tests.fakes.state_daemon import FakeStateDaemon
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.chat import Message, Role
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.engine_port import Report
from unified_llm.worker.fake_engine import open_fake_engine
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.protocol import Done, Generate

_ENGINES: dict[str, Callable[[KeptStates | None], BatchingEngine]] = {
    "fake": open_fake_engine,
    "llama": open_llama_engine,
}
_STORY = "a fox meets a river and " * 6
_ME, _YOU = "uid:1000", "uid:1001"


@pytest.fixture(params=_ENGINES)
def open_engine(request: pytest.FixtureRequest) -> Callable[[KeptStates | None], BatchingEngine]:
    return _ENGINES[request.param]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=512)


@pytest.fixture
def daemon() -> Iterator[FakeStateDaemon]:
    daemon = FakeStateDaemon()
    yield daemon
    daemon.close()


elsewhere = daemon  # another one, for what would have come out without a swap


Opener = Callable[[KeptStates | None], BatchingEngine]


@contextmanager
def worker(
    open_engine: Opener, model: Path, daemon: FakeStateDaemon, *, slots: int = 2
) -> Iterator[BatchingEngine]:
    """One worker's life; what its slots hold is saved in the end."""
    with daemon.open_states() as states:
        engine = open_engine(states)
        try:
            engine.load(load_of(model, slots=slots), lambda _: None)
            yield engine
            engine.hurry()
            engine.save_states()
        finally:
            engine.close()


def turn(number: int, *said: str, principal: str = _ME) -> Generate:
    """The request of a conversation in which everybody has said something so far."""
    roles = (Role.USER, Role.ASSISTANT)
    messages = tuple(Message(roles[index % 2], text) for index, text in enumerate(said))
    request = generate(number, principal=principal)
    return Generate(
        id=number,
        principal=principal,
        messages=messages,
        max_tokens=request.max_tokens,
        stop=(),
        sampling=request.sampling,
    )


def asked(engine: BatchingEngine, request: Generate) -> tuple[str, Done]:
    engine.submit(request)
    reports: list[Report] = run(engine)
    done = reports[-1]
    assert isinstance(done, Done)
    return text_of(reports), done


def two_turns(engine: BatchingEngine) -> tuple[str, str, Done]:
    first, _ = asked(engine, turn(1, _STORY))
    second, done = asked(engine, turn(2, _STORY, first, "and then"))
    return first, second, done


def test_a_conversation_goes_on_in_the_next_worker_as_if_it_had_not_left(
    open_engine: Opener, model: Path, daemon: FakeStateDaemon, elsewhere: FakeStateDaemon
) -> None:
    with worker(open_engine, model, elsewhere) as engine:
        first, expected, without_swap = two_turns(engine)
    with worker(open_engine, model, daemon) as engine:
        _, begun = asked(engine, turn(1, _STORY))
    with worker(open_engine, model, daemon) as engine:
        text, done = asked(engine, turn(2, _STORY, first, "and then"))
    assert text == expected
    assert done.cached_tokens == without_swap.cached_tokens
    assert done.cached_tokens >= begun.prompt_tokens


def test_another_principal_is_spared_nothing(
    open_engine: Opener, model: Path, daemon: FakeStateDaemon
) -> None:
    with worker(open_engine, model, daemon) as engine:
        asked(engine, turn(1, _STORY))
    with worker(open_engine, model, daemon) as engine:
        # All that there is has been delivered, as no daemon would do.
        _, done = asked(engine, turn(2, _STORY, principal=_YOU))
        assert done.cached_tokens == 0
        _, done = asked(engine, turn(3, _STORY))
        assert done.cached_tokens == done.prompt_tokens - 1


def test_what_another_conversation_pushes_out_of_its_slot_is_kept(
    open_engine: Opener, model: Path, daemon: FakeStateDaemon
) -> None:
    with worker(open_engine, model, daemon, slots=1) as engine:
        first, _ = asked(engine, turn(1, _STORY))
        asked(engine, turn(2, "nothing of the kind, " * 5, principal=_YOU))
        _, done = asked(engine, turn(3, _STORY, first, "and then"))
        assert done.cached_tokens > done.prompt_tokens / 2
    assert [each.is_spent for each in daemon.restored] == [True]
    assert sorted(principal for principal, _ in daemon.kept.values()) == [_ME, _YOU]


def test_a_worker_that_is_told_to_go_saves_what_it_is_in_the_middle_of(
    open_engine: Opener, model: Path, daemon: FakeStateDaemon, elsewhere: FakeStateDaemon
) -> None:
    with worker(open_engine, model, daemon) as engine:
        engine.submit(turn(1, _STORY))
        for _ in range(4):
            engine.step(lambda: None)
        engine.hurry()
        engine.step(lambda: None)
        assert engine.is_busy
    with worker(open_engine, model, daemon) as engine:
        text, done = asked(engine, turn(2, _STORY))
        assert done.cached_tokens == done.prompt_tokens - 1
    with worker(open_engine, model, elsewhere) as engine:
        assert text == asked(engine, turn(1, _STORY))[0]


def test_a_state_that_the_daemon_drops_is_not_used(
    open_engine: Opener, model: Path, daemon: FakeStateDaemon
) -> None:
    with worker(open_engine, model, daemon) as engine:
        asked(engine, turn(1, _STORY))
    with worker(open_engine, model, daemon) as engine:
        (state,) = daemon.kept
        engine.submit(turn(1, "hi", principal=_YOU))
        run(engine)
        engine.drop_state(state)
        assert asked(engine, turn(2, _STORY))[1].cached_tokens == 0
