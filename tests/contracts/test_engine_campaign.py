"""Two thousand ways to ask for tokens, sane and absurd, and the native engine lives.

A crash of native code would end the process, so the engine runs in a child of the test.
"""

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest

from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.chat import Message, Role, Sampling
from unified_llm.domain.sampling import NUMBERS
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.protocol import Done, Failed, Generate, Load

_SETS: Final = 2000
_TOKENS: Final = 8
_ABSURD_INTEGERS: Final = (-1, 2**31, 2**32, 2**63, -(2**31), 10**40)
_ABSURD: Final = (
    *_ABSURD_INTEGERS,
    *(-1e38, 5e-324, 1e-40, 1e308, float("nan"), float("inf"), float("-inf")),
)
_WHOLE: Final = {field.name for field in fields(Sampling) if field.type == int | None}


def _number(draw: random.Random, name: str) -> float:
    number = NUMBERS[name]
    kind = draw.random()
    is_whole = name in _WHOLE
    if kind < 0.02:
        return draw.choice(_ABSURD_INTEGERS if is_whole else _ABSURD)
    if kind < 0.4:
        return draw.choice((number.least, number.most, number.off or 0))
    if is_whole:
        return draw.randint(int(number.least), int(number.most))
    return draw.uniform(number.least, number.most)


def _sampling(draw: random.Random, vocabulary_size: int) -> Sampling:
    names = draw.sample(list(NUMBERS), draw.randint(0, 8))
    numbers: dict[str, Any] = {name: _number(draw, name) for name in names}
    if draw.random() < 0.15:
        numbers = {name: value for name, value in numbers.items() if name.startswith("mirostat")}
        numbers["mirostat"] = draw.randint(1, 2)
    biases = [
        (draw.randint(0, vocabulary_size), draw.choice((-100.0, 100.0, 0.0, draw.gauss(0, 30))))
        for _ in range(draw.choice((0, 0, 0, 1, 5, 300)))
    ]
    return Sampling(**numbers, logit_bias=tuple(biases), ignore_eos=draw.random() < 0.3)


def run_campaign(model: str) -> None:
    """Answer all of them, several at a time; print how they ended, and those that did not."""
    engine = open_llama_engine()
    engine.load(Load(model="m", path=model, context_tokens=128, slots=8, threads=1), lambda _: None)
    draw = random.Random(20261122)
    ended: dict[int, str] = {}
    for number in range(_SETS):
        engine.submit(
            Generate(
                id=number,
                principal=f"uid:{number % 3}",
                messages=(Message(Role.USER, "again and again and again"),),
                max_tokens=draw.randint(1, _TOKENS),
                stop=(),
                sampling=_sampling(draw, 357),
            )
        )
        while engine.waiting or (number == _SETS - 1 and engine.is_busy):
            for report in engine.step(lambda: None):
                if isinstance(report, Done | Failed):
                    assert report.id not in ended
                    ended[report.id] = report.code if isinstance(report, Failed) else "done"
    engine.close()
    print(json.dumps(Counter(ended.values())))


@pytest.mark.slow
def test_no_parameters_end_the_worker_and_each_request_is_answered(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    child = subprocess.run(
        [sys.executable, "-m", "tests.contracts.test_engine_campaign", str(model)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    ended: dict[str, int] = json.loads(child.stdout)
    assert sum(ended.values()) == _SETS
    assert set(ended) == {"done", "invalid-request"}
    assert ended["done"] > _SETS // 3  # most of what was drawn was not refused at the door


if __name__ == "__main__":
    run_campaign(sys.argv[1])
