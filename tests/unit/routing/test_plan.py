"""Who is asked for a request, in which order, and why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.routing.targets import asked, far, here, plan_of, route
from unified_llm.domain.errors import LocalOnly, NoRoom, ProviderDenied, TooLarge
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import DOLLAR, Money
from unified_llm.domain.routing import Strategy
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.routing.candidates import LOCAL, Candidate
from unified_llm.routing.plan import Wish, make_plan

COLD, WARM, FAR, FARTHER = here("cold"), here("warm", loaded=True), far("a/x"), far("b/y")
ALL = (FAR, COLD, FARTHER, WARM)


@pytest.mark.parametrize(
    ("strategy", "order"),
    [
        (Strategy.IN_ORDER, ["a/x", "cold", "b/y", "warm"]),
        (Strategy.LOCAL_FIRST, ["warm", "cold", "a/x", "b/y"]),
        (Strategy.CLOUD_FIRST, ["a/x", "b/y", "warm", "cold"]),
    ],
)
def test_each_strategy_has_its_order_and_keeps_that_of_equals(
    strategy: Strategy, order: list[str]
) -> None:
    assert asked(plan_of(*ALL, strategy=strategy)) == order


def test_the_cheapest_is_asked_first_and_what_nobody_knows_last() -> None:
    dear, cheap, unknown = far("a/dear"), far("b/cheap"), far("c/unknown")
    targets = [
        replace(dear, cost=Money(3 * DOLLAR // 1000)),
        unknown,
        replace(cheap, cost=Money(DOLLAR // 1000)),
        replace(COLD, cost=Money(0)),
        replace(WARM, cost=Money(0)),
    ]
    plan = plan_of(*targets, strategy=Strategy.COST_OPTIMISED)
    assert [(each.candidate.model, each.reason) for each in plan.attempts] == [
        ("warm", "loaded on this machine"),
        ("cold", "on this machine, not loaded"),
        ("b/cheap", "0.001000 dollars at most, at provider b"),
        ("a/dear", "0.003000 dollars at most, at provider a"),
        ("c/unknown", "its price at provider c is not known"),
    ]


def test_the_soonest_is_asked_first_and_nothing_is_loaded_to_be_measured() -> None:
    slow, quick = replace(FAR, first_content=Seconds(2)), replace(COLD, first_content=Seconds(0.5))
    new, unloaded = FARTHER, here("unloaded")
    plan = plan_of(unloaded, slow, quick, new, strategy=Strategy.LATENCY_OPTIMISED)
    assert [(each.candidate.model, each.reason) for each in plan.attempts] == [
        ("b/y", "not measured lately; answered by provider b"),
        ("cold", "begins after 0.50 s, by what was measured"),
        ("a/x", "begins after 2.00 s, by what was measured"),
        ("unloaded", "not measured lately; on this machine, not loaded"),
    ]


def test_of_what_costs_nothing_the_least_disturbance_comes_first_and_then_the_soonest() -> None:
    def free(name: str, first_content: float | None, *leaving: str) -> Candidate:
        seconds = None if first_content is None else Seconds(first_content)
        return replace(
            here(name), cost=Money(0), first_content=seconds, leaving=tuple(map(ModelId, leaving))
        )

    nowhere = replace(free("nowhere", 0.1), leaving=None)
    warm = replace(WARM, cost=Money(0), first_content=Seconds(9))
    targets = [nowhere, free("pushy", 1, "cat"), free("new", None), free("slow", 5), warm]
    plan = plan_of(*targets, strategy=Strategy.COST_OPTIMISED)
    assert asked(plan) == ["warm", "slow", "new", "pushy", "nowhere"]


def test_where_there_is_no_room_nobody_is_quick_and_of_equals_the_cheaper_is_first() -> None:
    nowhere = replace(COLD, first_content=Seconds(0.1), leaving=None)
    dear = replace(FAR, first_content=Seconds(1), cost=Money(2))
    cheap = replace(FARTHER, first_content=Seconds(1), cost=Money(1))
    plan = plan_of(nowhere, dear, cheap, strategy=Strategy.LATENCY_OPTIMISED)
    assert asked(plan) == ["b/y", "a/x", "cold"]


def test_every_choice_has_its_reason() -> None:
    plan = plan_of(*ALL, strategy=Strategy.LOCAL_FIRST)
    assert [each.reason for each in plan.attempts] == [
        "loaded on this machine",
        "on this machine, not loaded",
        "answered by provider a",
        "answered by provider b",
    ]


def test_turns_go_round_and_by_weight() -> None:
    one, two = here("one"), here("two")
    weighted = route(Strategy.WEIGHTED, one, two, one=3)
    plans = [make_plan(weighted, (one, two), Wish())]
    for _ in range(7):
        plans.append(make_plan(weighted, (one, two), Wish(), plans[-1].credits))
    assert [asked(plan)[0] for plan in plans] == ["one", "one", "two", "one"] * 2
    assert plans[0].attempts[0].reason == "its turn, weight 3"
    assert [each.reason for each in plan_of(one, two, strategy=Strategy.ROUND_ROBIN).attempts] == [
        "its turn",
        "a later turn",
    ]


def test_what_is_known_to_fail_is_skipped_with_its_error() -> None:
    off = ProviderDenied("Provider a is off.")
    small = here("small", context=100)
    plan = plan_of(far("a/x", obstacle=off), small, WARM, wish=Wish(least_tokens=Tokens(101)))
    assert asked(plan) == ["warm"]
    first, second = plan.skipped
    assert first.error is off
    assert isinstance(second.error, TooLarge)
    assert "101 tokens at least; the context of small has 100" in second.error.message


def test_a_route_may_keep_its_requests_here() -> None:
    kept = make_plan(route(Strategy.CLOUD_FIRST, *ALL, local_only=True), ALL, Wish())
    assert asked(kept) == ["warm", "cold"]
    assert kept.kept_local == "route smart"
    assert all(isinstance(each.error, LocalOnly) for each in kept.skipped)


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.text("abc/", min_size=1, max_size=4).map(ModelId),
        st.sampled_from([LOCAL, "a", "b"]),
        st.none() | st.integers(0, 9).map(Tokens),
        st.booleans(),
        st.none() | st.integers(0, 9).map(Money),
        st.none() | st.integers(0, 9).map(Seconds),
        st.none() | st.just(NoRoom("There is no room.")),
    ),
    unique_by=lambda each: each.model,
)


@given(
    CANDIDATES,
    st.sampled_from(Strategy),
    st.sampled_from(["request", "route", "both", "nobody"]),
    st.integers(0, 9),
    st.dictionaries(st.text("abc/", min_size=1, max_size=4).map(ModelId), st.integers(-9, 9)),
)
def test_what_stays_here_never_leaves_and_nothing_gets_lost(
    candidates: list[Candidate],
    strategy: Strategy,
    who: str,
    least: int,
    had: dict[ModelId, int],
) -> None:
    asking = Wish("the request" if who in {"request", "both"} else None, Tokens(least))
    target = route(strategy, *candidates, local_only=who in {"route", "both"})
    plan = make_plan(target, candidates, asking, had)
    if who != "nobody":
        assert all(each.candidate.is_local for each in plan.attempts)
    skipped = [str(each.candidate.model) for each in plan.skipped]
    assert sorted([*asked(plan), *skipped]) == sorted(each.model for each in candidates)
    assert all(each.candidate.obstacle is None for each in plan.attempts)
