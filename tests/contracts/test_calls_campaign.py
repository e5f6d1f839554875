"""Hundreds of tools with drawn schemas, called in every way, and the native engine lives.

A crash of native code would end the process, so the engine runs in a child of the test.

What is run with every change makes 200 requests of the draw in each notation. All 2,000 of each are
made by hand, in 30 s of processor time for each:

    python -m tests.contracts.test_calls_campaign
"""

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tests.generated_schemas import SchemaDraw
from tests.tiny_gguf import write_tiny_gguf
from tests.tool_templates import HERMES, QWEN_CODER
from unified_llm.domain.chat import Message, Role, Sampling, Tool, ToolChoice, ToolUse
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.protocol import Done, Failed, Generate, Load

_REQUESTS: Final = 200
_ALL: Final = 2000
_TOKENS: Final = 8
_MARKER: Final = "<tool_call>"
_MARKER_TOKEN: Final = 357  # what comes after the tiny model's own


def _tool(draw: random.Random, number: int) -> Tool:
    schemas = SchemaDraw(draw)
    properties = {name: schemas.schema(2) for name in draw.sample(["a", "b", "é"], 2)}
    schema = {"type": "object", "properties": properties, "required": draw.choice(([], ["zz"]))}
    if draw.random() < 0.9:
        schema["required"] = draw.sample(list(properties), draw.randint(0, 2))
    return Tool(f"tool_{number}", "A tool.", json.dumps(schema))


def _use(draw: random.Random) -> ToolUse:
    tools = tuple(_tool(draw, number) for number in range(draw.randint(1, 3)))
    choice = draw.choice(list(ToolChoice))
    named = draw.choice([None, tools[0].name]) if choice is ToolChoice.REQUIRED else None
    return ToolUse(tools, choice, named, is_parallel=draw.random() < 0.5)


def run_campaign(model: str, requests: int) -> None:
    """Answer so many of them, several at a time; print how they ended."""
    engine = open_llama_engine()
    engine.load(
        Load(model="m", path=model, context_tokens=2048, slots=4, threads=1), lambda _: None
    )
    draw = random.Random(20261122)
    ended: dict[int, str] = {}
    for number in range(requests):
        bias = ((_MARKER_TOKEN, draw.choice((0.0, 30.0))),)
        engine.submit(
            Generate(
                id=number,
                principal=f"uid:{number % 3}",
                messages=(Message(Role.USER, "again"),),
                max_tokens=_TOKENS,
                stop=(),
                sampling=Sampling(seed=number, logit_bias=bias),
                tool_use=_use(draw),
            )
        )
        while engine.waiting or (number == requests - 1 and engine.is_busy):
            for report in engine.step(lambda: None):
                if isinstance(report, Done | Failed):
                    assert report.id not in ended
                    ended[report.id] = report.code if isinstance(report, Failed) else "done"
    engine.close()
    print(json.dumps(Counter(ended.values())))


def check_campaign(folder: Path, template: str, requests: int) -> dict[str, int]:
    """How so many of them ended, in a process of its own that outlived them all."""
    model = write_tiny_gguf(
        folder / "tiny.gguf", context_tokens=2048, chat_template=template, special=(_MARKER,)
    )
    child = subprocess.run(
        [sys.executable, "-m", "tests.contracts.test_calls_campaign", str(model), str(requests)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    ended: dict[str, int] = json.loads(child.stdout)
    assert sum(ended.values()) == requests
    assert set(ended) <= {"done", "invalid-request", "too-large"}
    assert ended["done"] > requests // 2
    return ended


@pytest.mark.slow
@pytest.mark.parametrize("template", [HERMES, QWEN_CODER], ids=["json", "one-by-one"])
def test_no_tools_end_the_worker_and_each_request_is_answered(
    template: str, tmp_path: Path
) -> None:
    check_campaign(tmp_path, template, _REQUESTS)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_campaign(sys.argv[1], int(sys.argv[2]))
    else:
        with TemporaryDirectory() as found:
            for notation in (HERMES, QWEN_CODER):
                print(check_campaign(Path(found), notation, _ALL))
