"""What drafts bring where an answer quotes its prompt, and what they cost where it does not.

`python -m tests.bench.speculation` takes about a minute: SmolLM2-135M in this process, one context
for each way of speculation, which answer the same in turns, round by round. Judged by processor
time, which other work on the machine changes little; the clock's word stands beside it. Each answer
counts from its first token on, so the reading of its prompt is left out.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.bench.bars import Bar, print_bars
from tests.real_models import smollm2
from unified_llm.domain.chat import Message, Role, Sampling
from unified_llm.domain.models import Speculation
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.protocol import Delta, Done, Generate, Load

_MODES: Final = (Speculation.OFF, Speculation.PROMPT_LOOKUP, Speculation.AUTO)
_ANSWER_TOKENS: Final = 96
_TEXT: Final = (
    "The harbour master kept a ledger of every ship that came in. On Monday a brig from Lisbon "
    "landed forty casks of wine, twelve crates of oranges and a letter for the mayor. On Tuesday "
    "nothing came but fog. On Wednesday two schooners raced each other to the pier, and the slower "
    "one lost her bowsprit against the lighthouse steps."
)
_QUESTIONS: Final = {
    "quoted": (
        Message(Role.USER, f"Repeat this text: {_TEXT}"),
        Message(Role.ASSISTANT, _TEXT),
        Message(Role.USER, "Repeat it once more."),
    ),
    "free": (Message(Role.USER, "Write a short story about a clock maker who lives by the sea."),),
}
# What is drafted must be worth it where it can be, and cost next to nothing where it cannot.
_BARS: Final = {"quoted": 1.0, "free": 0.95}


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds for each token of one answer, of processors and by the clock."""

    processor: float
    clock: float
    done: Done
    steps: int


def measure(engine: BatchingEngine, number: int, question: tuple[Message, ...]) -> Costs:
    """One answer. The prompt is the principal's first, so that all of it is read each time."""
    engine.submit(
        Generate(
            id=number,
            principal=f"uid:{number}",
            messages=question,
            max_tokens=_ANSWER_TOKENS,
            stop=(),
            sampling=Sampling(temperature=0),
        )
    )
    began: tuple[float, float, int] | None = None
    while True:
        for report in engine.step(lambda: None):
            if began is None and isinstance(report, Delta):
                began = time.process_time(), time.perf_counter(), engine.steps_done
            if isinstance(report, Done) and began is not None:
                processor, clock = time.process_time() - began[0], time.perf_counter() - began[1]
                each = 1000 / (report.completion_tokens - 1)
                return Costs(processor * each, clock * each, report, engine.steps_done - began[2])


def compare(
    engines: dict[Speculation, BatchingEngine], rounds: int
) -> dict[tuple[str, Speculation], list[Costs]]:
    """Who begins a round alternates."""
    found: dict[tuple[str, Speculation], list[Costs]] = {}
    number = 0
    for turn in range(rounds):
        for name, question in _QUESTIONS.items():
            for mode in (*_MODES[turn % 3 :], *_MODES[: turn % 3]):
                number += 1
                costs = measure(engines[mode], number, question)
                found.setdefault((name, mode), []).append(costs)
    return found


def line(costs: Sequence[Costs]) -> str:
    processor = median(each.processor for each in costs)
    clock = median(each.clock for each in costs)
    last = costs[-1]
    return (
        f"{processor:6.2f} ms of processor time a token, {clock:6.2f} ms by the clock; last round: "
        f"{last.done.completion_tokens} tokens in {last.steps} steps, {last.done.accepted_tokens} "
        f"drafted tokens accepted, {last.done.rejected_tokens} rejected"
    )


def ratio(plain: Sequence[Costs], drafted: Sequence[Costs]) -> float:
    """How many times the tokens in the same processor time: the median of the rounds."""
    pairs = zip(plain, drafted, strict=True)
    return median(first.processor / second.processor for first, second in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.speculation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each question and way (5)")
    parser.add_argument("--threads", type=int, default=1, help="of each context (1)")
    arguments = parser.parse_args()
    engines = {mode: open_llama_engine() for mode in _MODES}
    with ExitStack() as undo:
        for mode, engine in engines.items():
            undo.callback(engine.close)
            load = Load(
                model="smollm2",
                path=str(smollm2()),
                context_tokens=1024,
                slots=1,
                threads=arguments.threads,
                speculation=mode,
            )
            engine.load(load, lambda _: None)
        found = compare(engines, arguments.rounds)
    bars = []
    for name, bar in _BARS.items():
        for mode in _MODES:
            print(f"{name:6} {mode.value:13} {line(found[name, mode])}")
        for mode in _MODES[1:]:
            value = ratio(found[name, Speculation.OFF], found[name, mode])
            bars.append(Bar(f"speculation.{name}.{mode.value}", value, at_least=bar))
    print_bars(bars)


if __name__ == "__main__":
    main()
