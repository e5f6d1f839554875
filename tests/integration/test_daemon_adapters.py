"""The whole daemon with LoRA adapters, sandbox on: names, answers, refusals."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.lora import write_lora
from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@contextmanager
def open_adapted(folder: Path) -> Iterator[WholeDaemon]:
    model = write_tiny_gguf(folder / "tiny.gguf", context_tokens=512)
    adapters = {
        "law": {"path": str(write_lora(folder / "law.gguf", seed=1))},
        "poetry": {"path": str(write_lora(folder / "poetry.gguf", seed=2)), "scale": 0.5},
        "lost": {"path": str(folder / "lost.gguf")},
    }
    changes = {
        "models": {"directory": None, "tiny": {"path": str(model), "adapters": adapters}},
        "routing": {"aliases": {"lawyer": "tiny:law"}},
        "worker": {"engine": "llama", "stall_seconds": PATIENCE},
    }
    with open_daemon(changes) as daemon:
        yield daemon


def ask(client: openai.OpenAI, model: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=HELLO, temperature=0, max_tokens=16
    )
    assert answer.model == model
    return answer.choices[0].message.content or ""


def test_each_adapter_is_a_model_to_those_who_ask(tmp_path: Path) -> None:
    with open_adapted(tmp_path) as daemon, daemon.open_openai() as client:
        names = ("tiny", "tiny:law", "tiny:poetry")
        answers = [ask(client, name) for name in names]
        assert len(set(answers)) == 3
        assert ask(client, "lawyer") == answers[1]
        twice = client.chat.completions.create(
            model="tiny:law", messages=HELLO, temperature=0, max_tokens=16, n=2
        )
        assert [each.message.content for each in twice.choices] == [answers[1]] * 2
        assert len(daemon.workers()) == 1, "one model serves all of them"
        listed = [each.id for each in client.models.list()]
        assert listed == ["tiny", "tiny:law", "tiny:poetry", "tiny:lost", "lawyer"]
        assert client.models.retrieve("tiny:law").id == "tiny:law"
        with pytest.raises(openai.BadRequestError, match="no adapter 'prose'") as unknown:
            ask(client, "tiny:prose")
        assert "law, poetry, lost" in str(unknown.value)
        with pytest.raises(openai.APIStatusError, match="no such file"):
            ask(client, "tiny:lost")
        by_bus = daemon.run(
            *("busctl", "--timeout=300", "call", "org.unifiedllm1", "/org/unifiedllm1"),
            *("org.unifiedllm1.Manager", "GenerateText", "ssa{sv}", "tiny:law", "hello"),
            *("2", "temperature", "d", "0", "max_tokens", "u", "16"),
        )
        assert by_bus.returncode == 0, by_bus.stderr
        records = daemon.audit(6)
    assert {"tiny:law", "tiny:prose"} <= {each["UNIFIED_LLM_OBJECT"] for each in records}
