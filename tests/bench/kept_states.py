"""What it costs to save and to restore a conversation, beside computing it anew.

`python -m tests.bench.kept_states` takes less than a minute: SmolLM2-135M in this process, every
figure the median of the rounds. Restoring includes the check of what was saved.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.real_models import smollm2
from unified_llm.worker.cores import allowed_physical_cores
from unified_llm.worker.engine import LlamaModel
from unified_llm.worker.native_log import NativeLog
from unified_llm.worker.protocol import Load
from unified_llm.worker.slots import Feed
from unified_llm.worker.state_file import read_state, restore_state, write_state

_LENGTHS = (512, 2048)
_CONTEXT_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds for one conversation of `tokens`. size: bytes of its state."""

    tokens: int
    size: int
    compute: float
    save: float
    restore: float

    def __str__(self) -> str:
        return (
            f"{self.tokens} tokens, {self.size / 2**20:.1f} MiB: computed in {self.compute:.0f} ms,"
            f" saved in {self.save:.1f} ms, restored in {self.restore:.1f} ms"
        )


def measure(model: LlamaModel, tokens: int) -> Costs:
    """One round. The prompt is made of any tokens; what they mean costs nothing."""
    draw = random.Random(tokens)
    prompt = [draw.randrange(1000, 40_000) for _ in range(tokens)]
    model.truncate(0, 0)
    compute = _milliseconds(lambda: _read(model, prompt))
    size = model.state_bytes(0)
    began = time.perf_counter()
    descriptor = write_state(prompt, size, lambda room: model.save_state(0, room))
    save = 1000 * (time.perf_counter() - began)
    if descriptor is None:
        raise RuntimeError("the model does not save its state")
    try:
        restore = _milliseconds(lambda: _restore(model, descriptor))
    finally:
        os.close(descriptor)
    return Costs(tokens, size, compute, save, restore)


def _read(model: LlamaModel, prompt: list[int]) -> None:
    for start in range(0, len(prompt), model.batch_tokens):
        part = tuple(prompt[start : start + model.batch_tokens])
        is_last = start + len(part) == len(prompt)
        model.decode([Feed(0, 1, start, part, is_last)], lambda: False)


def _restore(model: LlamaModel, descriptor: int) -> None:
    file = read_state(descriptor, _CONTEXT_TOKENS)
    if not restore_state(descriptor, file, lambda state: model.restore_state(1, state)):
        raise RuntimeError("the model does not take its state back")


def _milliseconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=allowed_physical_cores())
    arguments = parser.parse_args()
    load = Load(
        model="smollm2",
        path=str(smollm2()),
        context_tokens=_CONTEXT_TOKENS,
        slots=2,
        threads=arguments.threads,
    )
    model = LlamaModel(load, lambda _: None, NativeLog())
    try:
        for tokens in _LENGTHS:
            rounds = [measure(model, tokens) for _ in range(arguments.rounds)]
            median = Costs(
                tokens,
                rounds[0].size,
                statistics.median(each.compute for each in rounds),
                statistics.median(each.save for each in rounds),
                statistics.median(each.restore for each in rounds),
            )
            print(median)
    finally:
        model.close()


if __name__ == "__main__":
    main()
