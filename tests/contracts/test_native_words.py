"""What llama.cpp says of steps that we end early stays with us."""

from pathlib import Path

import pytest

from tests.contracts.test_engine_llama import ask, load_of
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.chat import Message, Role
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.protocol import Failed


def test_a_cancelled_step_is_no_news(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = open_llama_engine()
    engine.load(load_of(write_tiny_gguf(tmp_path / "tiny.gguf")), lambda _: None)
    capfd.readouterr()
    engine.submit(ask(Message(Role.USER, "one two three")))
    looks = 0

    def cancel_under_way() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:  # the first look is before the step
            engine.interrupt(1)

    reports = [each for _ in range(2) for each in engine.step(cancel_under_way)]
    assert looks >= 3
    assert [each.code for each in reports if isinstance(each, Failed)] == ["cancelled"]
    assert capfd.readouterr().err == ""
    engine.close()
