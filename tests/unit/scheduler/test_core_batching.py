"""A hundred requests, two models, room for one: swaps are batched, and nobody waits too long."""

from itertools import pairwise
from statistics import mean

import pytest

from tests.fakes.replay import STOP_SECONDS, Ask, Replay, load_seconds
from tests.unit.scheduler.scenario import CAT, DOG, GIB, make_spec
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes
from unified_llm.scheduler.policy import SchedulingPolicy

POLICY = SchedulingPolicy(ram_budget=Bytes(8 * GIB))
SPECS = {model: make_spec(model, 8, slots=4) for model in (CAT, DOG)}


def first_come_first_served(asks: list[Ask], slots: int) -> tuple[list[float], int]:
    """The wait of each and the number of loads if nobody may overtake anybody."""
    now, loads, waits = 0.0, 0, list[float]()
    loaded: ModelId | None = None
    busy: list[float] = []
    for ask in asks:
        if ask.model != loaded:
            now = max([now, *busy])
            now += (STOP_SECONDS if loaded else 0) + load_seconds(SPECS[ask.model])
            loaded, busy, loads = ask.model, [], loads + 1
        busy = sorted(end for end in busy if end > now)
        if len(busy) == slots:
            now = busy.pop(0)
        busy.append(now + ask.seconds)
        waits.append(now - ask.at)
    return waits, loads


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 4.0])
def test_a_hundred_alternating_requests_are_batched_by_model(seconds: float) -> None:
    asks = [Ask(0.0, (CAT, DOG)[number % 2], "uid:1000", seconds) for number in range(100)]
    waits, swaps = first_come_first_served(asks, slots=4)
    replay = Replay(POLICY, list(SPECS.values()))
    heard = replay.run(asks)
    ours = [each.waited for each in heard]
    print(
        f"{seconds} s each: mean wait {mean(ours):.1f} s against {mean(waits):.1f} s, "
        f"longest {max(ours):.1f} s, {len(replay.loads)} loads against {swaps}"
    )
    assert mean(waits) / mean(ours) >= 3
    assert swaps / len(replay.loads) >= 3
    # No model is without a grant for longer than the longest turn and what a swap takes.
    swap = seconds + STOP_SECONDS + load_seconds(SPECS[CAT])
    for model in SPECS:
        grants = [each.granted or 0.0 for each in heard if each.ask.model == model]
        assert all(
            after - before <= POLICY.ageing + swap for before, after in pairwise([0.0, *grants])
        )


def test_nobody_of_them_waits_longer_than_the_ageing_bound() -> None:
    asks = [Ask(0.0, (CAT, DOG)[number % 2], "uid:1000", 1.0) for number in range(100)]
    heard = Replay(POLICY, list(SPECS.values())).run(asks)
    assert max(each.waited for each in heard) <= POLICY.ageing


def test_of_four_models_in_the_place_of_one_none_waits_longer_than_ageing_and_all_turns() -> None:
    models = [ModelId(f"m{number}") for number in range(4)]
    specs = [make_spec(model, 8, priority=30 * rank) for rank, model in enumerate(models)]
    end, seconds = 1200, 2.0
    asks = [
        Ask(float(moment), model, "uid:1000", seconds)
        for moment in range(0, end, 2)
        for model in models
    ]
    heard = Replay(POLICY, specs).run(asks)
    load = load_seconds(specs[0])
    turn = max(POLICY.turn, load * (1 - POLICY.swap_share) / POLICY.swap_share)
    # When one has aged, all others may still be before it, once each.
    swap = seconds + STOP_SECONDS + load
    bound = POLICY.ageing + (len(models) - 1) * (turn + swap) + swap
    for model in models:
        grants = [each.granted for each in heard if each.ask.model == model and each.granted]
        within = sorted(grant for grant in grants if grant < end)
        longest = max(after - before for before, after in pairwise([0.0, *within, end]))
        print(f"{model}: {len(within)} grants, at most {longest:.1f} s of {bound:.1f} s between")
        assert longest <= bound
