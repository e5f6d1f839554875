"""The fake's directives, as other tests rely on them. Its contract is in tests/contracts."""

from pathlib import Path

import pytest

from unified_llm.domain.chat import Message, Role, Sampling
from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine_port import Report
from unified_llm.worker.fake_engine import open_fake_engine
from unified_llm.worker.protocol import Delta, Generate, Load


def open_loaded(path: Path, slept: list[float], content: str = "") -> BatchingEngine:
    path.write_bytes(b"GGUF" + content.encode())
    engine = open_fake_engine(sleep=slept.append)
    engine.load(
        Load(model="m", path=str(path), context_tokens=1000, slots=2, threads=None), lambda _: None
    )
    return engine


def answer(engine: BatchingEngine, *texts: str, begun: str = "") -> str:
    engine.submit(
        Generate(
            id=1,
            principal="uid:1",
            messages=tuple(Message(Role.USER, text) for text in texts),
            max_tokens=None,
            stop=(),
            sampling=Sampling(),
            begun=begun,
        )
    )
    reports: list[Report] = []
    while engine.is_busy:
        reports += engine.step(lambda: None)
    return "".join(report.text for report in reports if isinstance(report, Delta))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two  words\n", "two  words\n"),
        ("!tokens 4", "1 2 3 4 "),
        ("!tokens 2 ignored", "1 2 "),
        ("!step 0.02 hello", "hello"),
        ("!important", "!important"),
        ("!stepping 3", "!stepping 3"),
    ],
)
def test_it_says_what_the_last_message_says(tmp_path: Path, text: str, expected: str) -> None:
    assert answer(open_loaded(tmp_path / "m", []), "before", text) == expected


@pytest.mark.parametrize(
    ("begun", "left"),
    [("one", " two 3"), ("one tw", "o 3"), ("one two 3", ""), ("uno", "one two 3")],
)
def test_it_goes_on_with_what_it_may_have_said(tmp_path: Path, begun: str, left: str) -> None:
    engine = open_loaded(tmp_path / "m", [])
    assert answer(engine, "before", "one two 3", begun=begun) == left
    assert answer(engine, "!tokens 4", begun="1 2") == " 3 4 "


def test_a_directive_in_an_earlier_message_does_nothing(tmp_path: Path) -> None:
    assert answer(open_loaded(tmp_path / "m", []), "!crash !tokens 9", "calm") == "calm"


def test_a_slow_step_takes_its_time_in_slices(tmp_path: Path) -> None:
    slept: list[float] = []
    answer(open_loaded(tmp_path / "m", slept), "!step 0.5 x")
    steps = 2  # the word, and the end
    assert sum(slept) == pytest.approx(0.5 * steps)
    assert max(slept) <= 0.01


def test_a_slow_load_takes_its_time(tmp_path: Path) -> None:
    slept: list[float] = []
    open_loaded(tmp_path / "m", slept, "!step 0.3")
    assert sum(slept) == pytest.approx(0.3)


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"ELF")
    with pytest.raises(ModelFailedToLoad, match="not GGUF"):
        open_fake_engine().load(
            Load(model="m", path=str(path), context_tokens=8, slots=1, threads=None), print
        )
