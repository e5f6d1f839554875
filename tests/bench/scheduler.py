"""The scheduler's real core in virtual time: policies compared over days, and growth.

`python -m tests.bench.scheduler` takes about a minute. `--journal FILE` replays a recorded day too:
the output of `journalctl -o json UNIFIED_LLM_ACTION=generate`.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, quantiles
from time import perf_counter

from tests.bench.bars import Bar, print_bars
from tests.bench.days import SPECS, Conversation, draw_day, draw_rush, play, read_journal
from tests.fakes.replay import GIB, Ask, Heard, Replay
from tests.unit.scheduler.scenario import make_spec
from unified_llm.domain.devices import DeviceId
from unified_llm.domain.models import GpuUse, ModelId
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.planner.evict import EvictionPolicy
from unified_llm.scheduler.policy import SchedulingPolicy

SEEDS = (1, 2, 3)
DECISION_BAR_MS = 2.0
# Models, GPUs, requests that wait, calls measured.
_SIZES = ((10, 1, 100, 4000), (100, 8, 10_000, 4000), (1000, 64, 100_000, 1000))
_POLICY = SchedulingPolicy(ram_budget=Bytes(24 * GIB))

POLICIES = {
    **{each.value: replace(_POLICY, eviction=each) for each in EvictionPolicy},
    # Nobody keeps a place: who asks is loaded as soon as the answers that run have ended.
    "no turns": replace(_POLICY, turn=Seconds(0.001), swap_share=1.0),
}


def unfairness(heard: list[Heard]) -> float:
    """The mean wait of the user who waits longest, in means of all users' means."""
    waits: dict[str, list[float]] = defaultdict(list)
    for each in heard:
        if each.granted is not None:
            waits[each.ask.principal].append(each.waited)
    means = [mean(each) for each in waits.values()]
    return max(means) / (mean(means) or 1.0)


def compare(title: str, run: Callable[[SchedulingPolicy], tuple[Replay, list[Heard]]]) -> None:
    """One line for each policy."""
    print(
        f"{title}\n  {'policy':<9} {'requests':>8} {'refused':>8} {'loads':>6} "
        f"{'wait mean':>10} {'p95':>8} {'p99':>8} {'unfairness':>11}"
    )
    for name, policy in POLICIES.items():
        replay, heard = run(policy)
        waits = [each.waited for each in heard if each.granted is not None]
        cuts, unfair = quantiles(waits, n=100), unfairness(heard)
        print(
            f"  {name:<9} {len(heard):>8} {len(heard) - len(waits):>8} {len(replay.loads):>6} "
            f"{mean(waits):>8.2f} s {cuts[94]:>6.1f} s {cuts[98]:>6.1f} s {unfair:>11.2f}"
        )


def generated(day: list[Conversation], policy: SchedulingPolicy) -> tuple[Replay, list[Heard]]:
    """A generated one."""
    replay = Replay(policy, SPECS)
    return replay, play(replay, day)


def recording(asks: list[Ask], policy: SchedulingPolicy) -> tuple[Replay, list[Heard]]:
    """A recorded one, its models as large as the table of days says, the unknown ones 8 GiB."""
    known = {spec.id: spec for spec in SPECS}
    names = sorted({ask.model for ask in asks})
    replay = Replay(policy, [known.get(name) or make_spec(name, 8, slots=4) for name in names])
    return replay, replay.run(asks)


def grow(models: int, gpus: int, queued: int, *, calls: int) -> list[float]:
    """Seconds of each of so many calls of the core while so many requests wait, sorted."""
    draw = random.Random(models)
    ids = [ModelId(f"model-{number}") for number in range(models)]
    specs = [
        make_spec(
            each, draw.randint(4, 18), slots=4, gpu=GpuUse.REQUIRED, priority=draw.randint(0, 100)
        )
        for each in ids
    ]
    replay = Replay(
        replace(_POLICY, ram_budget=Bytes(4 * models * GIB), queue_limit=queued),
        specs,
        {DeviceId(f"fake:{number}"): Bytes(24 * GIB) for number in range(gpus)},
    )
    for number in range(queued + calls):
        at = 0.0 if number < queued else (number - queued) * 0.05
        principal = f"uid:{draw.randint(1000, 1099)}"
        replay.add(Ask(at, draw.choice(ids), principal, draw.uniform(0.5, 5), patience=1e9))
    while len(replay.took) < queued + 2:
        replay.step()
    replay.took.clear()
    while len(replay.took) < calls:
        replay.step()
    return sorted(replay.took)


def measure_growth() -> Bar:
    """The bar's size, and beyond it."""
    bar = None
    for models, gpus, queued, calls in (
        (10, 1, 100, 4000),
        (100, 8, 10_000, 4000),
        (1000, 64, 100_000, 1000),
    ):
        begun = perf_counter()
        took = grow(models, gpus, queued, calls=calls)
        p99 = took[int(len(took) * 0.99)] * 1000
        print(
            f"scheduler.growth {models} models, {gpus} GPUs, {queued} queued: p50 "
            f"{took[len(took) // 2] * 1000:.3f} ms, p99 {p99:.3f} ms, "
            f"longest {took[-1] * 1000:.1f} ms, "
            f"{len(took) / sum(took):.0f} decisions/s ({perf_counter() - begun:.0f} s in all)"
        )
        if models == 100:
            bar = Bar("scheduler.decision_p99_ms", p99, at_most=DECISION_BAR_MS)
    assert bar is not None
    return bar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--journal", type=Path, action="append", default=[])
    parser.add_argument("--growth-only", action="store_true")
    asked = parser.parse_args()
    if not asked.growth_only:
        for seed in SEEDS:
            compare(f"generated day, seed {seed}", partial(generated, draw_day(seed)))
        compare(f"generated rush hour, seed {SEEDS[0]}", partial(generated, draw_rush(SEEDS[0])))
        for path in asked.journal:
            compare(f"recorded day, {path.name}", partial(recording, read_journal(path)))
    print_bars([measure_growth()])


if __name__ == "__main__":
    main()
