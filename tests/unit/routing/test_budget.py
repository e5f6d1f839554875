"""Budgets are never overspent, and never refuse what fits."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.errors import BudgetSpent
from unified_llm.domain.events import BudgetNearlySpent
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import DOLLAR, Money
from unified_llm.domain.usage import UsageLine
from unified_llm.routing.budget import AccountKey, Budgets, Limit, Period, Reservation, Use

STUDENTS = 2003
TODAY, TOMORROW, NEXT_MONTH = "2026-11-22", "2026-11-23", "2026-12-01"
ALICE, BOB = "uid:1000", "uid:1001"
ONE = Money(DOLLAR)
DAILY = Limit("daily", Money(10 * DOLLAR), Period.DAY)


def reserve(budgets: Budgets, who: str = ALICE, day: str = TODAY) -> Reservation:
    return budgets.reserve(Use(who, "far", day), ONE)


def count(budgets: Budgets, who: str = ALICE, day: str = TODAY) -> int:
    """How many requests of a dollar are let through now."""
    made = 0
    try:
        while True:
            reserve(budgets, who, day)
            made += 1
    except BudgetSpent:
        return made


def test_what_is_set_aside_is_not_there_for_others() -> None:
    budgets = Budgets([DAILY])
    assert count(budgets) == 10
    with pytest.raises(BudgetSpent, match=r"Budget daily has 0.000000 of 10.000000 dollars left"):
        reserve(budgets)


def test_what_was_not_needed_is_there_again() -> None:
    budgets = Budgets([DAILY])
    for _ in range(10):
        budgets.settle(reserve(budgets), Money(DOLLAR // 10))
    assert count(budgets) == 9


def test_each_user_has_the_whole_amount_unless_it_is_shared() -> None:
    each, shared = Budgets([DAILY]), Budgets([replace(DAILY, is_shared=True)])
    assert (count(each, ALICE), count(each, BOB)) == (10, 10)
    assert (count(shared, ALICE), count(shared, BOB)) == (10, 0)


def test_a_budget_is_for_those_it_names() -> None:
    budgets = Budgets([replace(DAILY, users=frozenset({ALICE}), provider="far")])
    assert count(budgets, ALICE) == 10
    for _ in range(20):
        reserve(budgets, BOB)
        budgets.reserve(Use(ALICE, "near", TODAY), ONE)


def test_a_budget_of_a_group_is_for_its_members_and_for_users_it_names_besides() -> None:
    shared = replace(DAILY, groups=frozenset([STUDENTS]), users=frozenset([BOB]), is_shared=True)
    budgets = Budgets([shared])
    member = Use(ALICE, "far", TODAY, frozenset([100, STUDENTS]))
    for _ in range(4):
        budgets.reserve(member, ONE)
    assert count(budgets, BOB) == 6
    with pytest.raises(BudgetSpent):
        budgets.reserve(member, ONE)
    budgets.reserve(Use(ALICE, "far", TODAY, frozenset([100])), ONE)


def test_a_budget_is_for_everybody_while_one_of_its_groups_is_not_known() -> None:
    unknown = replace(
        DAILY, users=frozenset([BOB]), groups=frozenset([STUDENTS]), unknown_groups=("staff",)
    )
    budgets = Budgets([replace(unknown, provider="far")])
    for _ in range(10):
        reserve(budgets, ALICE)
    with pytest.raises(BudgetSpent):
        reserve(budgets, ALICE)
    budgets.reserve(Use(ALICE, "near", TODAY), ONE)
    budgets.follow([replace(unknown, unknown_groups=())])
    reserve(budgets, ALICE)


def test_each_member_has_the_whole_amount_unless_it_is_shared() -> None:
    budgets = Budgets([replace(DAILY, groups=frozenset([STUDENTS]))])
    for who in (ALICE, BOB):
        for _ in range(10):
            budgets.reserve(Use(who, "far", TODAY, frozenset([STUDENTS])), ONE)


def test_what_a_member_spent_before_the_start_counts_for_the_group() -> None:
    budgets = Budgets([replace(DAILY, groups=frozenset([STUDENTS]), is_shared=True)])
    line = UsageLine(TODAY, ALICE, "far", ModelId("far/a"), cost=Money(4 * ONE))
    groups = {ALICE: frozenset([STUDENTS])}
    budgets.recall([line, replace(line, principal=BOB)], lambda who: groups.get(who, frozenset()))
    assert sum(budgets.spent().values()) == 4 * ONE


def test_days_and_months_begin_anew() -> None:
    budgets = Budgets(
        [DAILY, replace(DAILY, name="m", period=Period.MONTH, amount=Money(15 * ONE))]
    )
    assert [count(budgets, day=day) for day in (TODAY, TOMORROW, NEXT_MONTH)] == [10, 5, 10]


def test_a_request_counts_in_the_day_in_which_it_was_made() -> None:
    budgets = Budgets([DAILY])
    late = reserve(budgets)
    assert count(budgets, day=TOMORROW) == 10
    budgets.settle(late, ONE)
    assert count(budgets) == 9


def test_a_refusal_by_one_limit_sets_nothing_aside_under_another() -> None:
    tight = replace(DAILY, name="tight", amount=Money(ONE), provider="far")
    budgets = Budgets([DAILY, tight])
    assert count(budgets) == 1
    for _ in range(9):
        budgets.reserve(Use(ALICE, "near", TODAY), ONE)


def test_an_unknown_price_is_refused_where_a_limit_applies() -> None:
    budgets = Budgets([replace(DAILY, provider="far")])
    with pytest.raises(BudgetSpent, match="price of what far was asked for is not known"):
        budgets.reserve(Use(ALICE, "far", TODAY), None)
    assert budgets.reserve(Use(ALICE, "near", TODAY), None).amount == 0


def test_what_was_spent_before_the_start_counts() -> None:
    budgets = Budgets([DAILY, replace(DAILY, name="m", period=Period.MONTH)])
    line = UsageLine(TODAY, ALICE, "far", ModelId("far/a"), cost=Money(4 * ONE))
    budgets.recall([line, replace(line, day="2026-11-01", cost=Money(3 * ONE))])
    assert count(budgets) == 3


def test_what_was_spent_and_is_set_aside_counts_under_limits_that_come_later() -> None:
    budgets = Budgets()
    budgets.settle(reserve(budgets), ONE)
    under_way = reserve(budgets)
    budgets.follow([DAILY])
    assert count(budgets) == 8
    budgets.follow([replace(DAILY, is_shared=True)])
    budgets.settle(under_way, Money(0))
    assert (count(budgets, BOB), count(budgets, ALICE)) == (1, 0)
    budgets.follow([])
    reserve(budgets)


def test_a_limit_below_what_is_spent_refuses_until_its_period_is_over() -> None:
    budgets = Budgets([DAILY])
    under_way = reserve(budgets)
    low = replace(DAILY, amount=Money(ONE // 2))
    budgets.follow([low])
    with pytest.raises(BudgetSpent, match=r"has 0\.000000 of 0\.500000 dollars left"):
        reserve(budgets)
    budgets.settle(under_way, ONE)
    with pytest.raises(BudgetSpent):
        budgets.reserve(Use(ALICE, "far", TODAY), Money(1))
    budgets.reserve(Use(ALICE, "far", TOMORROW), low.amount)


def test_who_was_told_of_a_limit_is_told_again_only_of_another() -> None:
    told: list[object] = []
    low = replace(DAILY, warn_percent=10)
    budgets = Budgets([low], told.append)
    budgets.settle(reserve(budgets), ONE)
    budgets.follow([low])
    budgets.settle(reserve(budgets), ONE)
    assert len(told) == 1
    budgets.follow([replace(low, warn_percent=20)])
    budgets.settle(reserve(budgets), ONE)
    assert len(told) == 2


def test_what_was_spent_in_earlier_months_is_forgotten() -> None:
    budgets = Budgets()
    for day in (TODAY, TOMORROW, NEXT_MONTH):
        budgets.settle(reserve(budgets, day=day), ONE)
    assert list(budgets._spent) == [Use(ALICE, "far", NEXT_MONTH)]


def test_who_has_nearly_spent_it_is_told_of_once_in_a_period() -> None:
    told: list[BudgetNearlySpent] = []
    budgets = Budgets([replace(DAILY, warn_percent=30)], told.append)
    for day in (TODAY, TOMORROW):
        for _ in range(5):
            budgets.settle(reserve(budgets, day=day), ONE)
    assert told == [
        BudgetNearlySpent("daily", day, ALICE, Money(3 * ONE), DAILY.amount)
        for day in (TODAY, TOMORROW)
    ]
    assert told[0].sentence == (
        f"budget daily of uid:1000 for {TODAY}: 3.000000 of 10.000000 dollars are spent"
    )


@given(
    st.integers(0, 50),
    st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9)), max_size=60),
)
def test_spent_and_set_aside_never_exceed_the_limit_and_nothing_that_fits_is_refused(
    amount: int, steps: list[tuple[bool, int, int]]
) -> None:
    limit = replace(DAILY, amount=Money(amount))
    budgets, spent = Budgets([limit]), 0
    under_way: list[Reservation] = []
    for is_new, most, cost in steps:
        if is_new or not under_way:
            held = sum(each.amount for each in under_way)
            if spent + held + most <= amount:
                under_way.append(budgets.reserve(Use(ALICE, "far", TODAY), Money(most)))
            else:
                with pytest.raises(BudgetSpent):
                    budgets.reserve(Use(ALICE, "far", TODAY), Money(most))
        else:
            reservation = under_way.pop(0)
            paid = Money(min(cost, reservation.amount))
            budgets.settle(reservation, paid)
            spent += paid
        held = sum(each.amount for each in under_way)
        assert spent + held <= amount
        (told,) = budgets.spent().values() or [Money(0)]
        assert told == spent + held


LIMITS = [
    DAILY,
    replace(DAILY, name="small", amount=Money(3)),
    replace(DAILY, name="shared", amount=Money(9), is_shared=True, period=Period.MONTH),
    replace(DAILY, name="bobs", amount=Money(5), users=frozenset({BOB})),
    replace(DAILY, name="near", amount=Money(4), provider="near"),
    replace(DAILY, name="class", amount=Money(6), groups=frozenset([STUDENTS]), is_shared=True),
]
USES = st.builds(
    Use,
    st.sampled_from([ALICE, BOB]),
    st.sampled_from(["far", "near"]),
    st.sampled_from([TODAY, TOMORROW]),
    st.sampled_from([frozenset[int](), frozenset([STUDENTS]), frozenset([STUDENTS, 7])]),
)
REQUESTS = st.tuples(USES, st.integers(0, 4))
ENDS = st.integers(0, 4)
CHANGES = st.sets(st.sampled_from(range(len(LIMITS))))


@given(st.lists(st.one_of(REQUESTS, ENDS, CHANGES), max_size=40))
def test_limits_that_change_are_kept_as_if_they_had_always_been(
    steps: list[tuple[Use, int] | int | set[int]],
) -> None:
    budgets, under_way = Budgets(), list[Reservation]()
    known: list[tuple[Use, int]] = []
    for step in steps:
        if isinstance(step, set):
            budgets.follow([LIMITS[number] for number in sorted(step)])
        elif isinstance(step, tuple):
            with suppress(BudgetSpent):
                under_way.append(budgets.reserve(step[0], Money(step[1])))
                known.append(step)
        elif under_way:
            done = under_way.pop(0)
            cost = min(step, done.amount)
            budgets.settle(done, Money(cost))
            known[known.index((done.use, done.amount))] = (done.use, cost)
        assert +Counter(budgets.spent()) == +expected_of(budgets, known)


def expected_of(budgets: Budgets, known: list[tuple[Use, int]]) -> Counter[AccountKey]:
    """What stands in each account, counted from the beginning."""
    expected = Counter[AccountKey]()
    for use, amount in known:
        for limit in budgets.limits:
            if limit.applies_to(use):
                expected[limit.account(use)] += amount
    return expected
