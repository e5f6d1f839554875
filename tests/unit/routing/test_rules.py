"""Which rule of a route applies, and why."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.models import ModelId
from unified_llm.domain.routing import Route, Rule, Strategy, When
from unified_llm.domain.units import Bytes
from unified_llm.routing.rules import Asking, Situation, apply_rules

SMART, OTHER = ModelId("smart"), (ModelId("other"),)
ASKING = Asking(SMART, "uid:1000", Bytes(100), has_tools=False, stays_local=False)
NOON = Situation(12 * 60, on_battery=None)


def considered(
    when: When, asking: Asking = ASKING, situation: Situation = NOON
) -> tuple[bool, str]:
    """Whether a rule with this condition applies, and why."""
    route = Route(SMART, Strategy.IN_ORDER, (ModelId("tiny"),), rules=(Rule(when, OTHER),))
    ruled = apply_rules(route, asking, situation)
    (found,) = ruled.considered
    assert (ruled.route.targets == OTHER) is found.applies
    return found.applies, found.why


@pytest.mark.parametrize(
    ("when", "applies", "why"),
    [
        (When(models=frozenset({SMART})), True, "smart was asked for"),
        (When(models=frozenset({ModelId("gpt-4o")})), False, "smart was asked for"),
        (When(users=frozenset({"uid:1000"})), True, "uid:1000 is one of its users"),
        (When(users=frozenset({"uid:1"})), False, "uid:1000 is none of its users"),
        (When(least_prompt=Bytes(100)), True, "the prompt has 100 bytes, at least 100"),
        (When(least_prompt=Bytes(101)), False, "the prompt has 100 bytes, less than 101"),
        (When(most_prompt=Bytes(100)), True, "the prompt has 100 bytes, at most 100"),
        (When(most_prompt=Bytes(99)), False, "the prompt has 100 bytes, more than 99"),
        (When(has_tools=False), True, "it comes without tools"),
        (When(has_tools=True), False, "it comes without tools"),
        (When(from_minute=720), True, "it is 12:00"),
        (When(until_minute=720), False, "it is 12:00"),
        (When(on_battery=False), False, "nobody tells whether the machine is on battery"),
        (When(stays_local=False), True, "it may leave the machine"),
        (When(stays_local=True), False, "it may leave the machine"),
    ],
)
def test_each_condition_says_what_it_has_found(when: When, applies: bool, why: str) -> None:
    assert considered(when) == (applies, why)


def test_all_conditions_must_hold_and_the_first_that_does_not_is_told() -> None:
    both = When(has_tools=False, on_battery=True)
    plugged, unplugged = (replace(NOON, on_battery=state) for state in (False, True))
    assert considered(both, situation=plugged) == (False, "the machine is not on battery")
    told = "it comes without tools, and the machine is on battery"
    assert considered(both, situation=unplugged) == (True, told)


@pytest.mark.parametrize(
    ("start", "end", "inside", "outside"),
    [
        ("08:00", "18:00", ["08:00", "17:59"], ["07:59", "18:00"]),
        ("22:00", "06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "21:59"]),
        ("22:00", None, ["22:00", "23:59"], ["00:00", "21:59"]),
        (None, "06:00", ["00:00", "05:59"], ["06:00", "23:59"]),
        ("22:00", "00:00", ["22:00", "23:59"], ["00:00", "21:59"]),
    ],
)
def test_a_time_of_day_may_go_past_midnight(
    start: str | None, end: str | None, inside: list[str], outside: list[str]
) -> None:
    def minute(clock: str) -> int:
        hours, minutes = clock.split(":")
        return int(hours) * 60 + int(minutes)

    when = When(
        from_minute=None if start is None else minute(start),
        until_minute=None if end is None else minute(end),
    )
    for clock in (*inside, *outside):
        situation = Situation(minute(clock), on_battery=None)
        assert considered(when, situation=situation) == (clock in inside, f"it is {clock}")


def test_a_route_that_keeps_its_requests_is_local_for_its_rules_too() -> None:
    rule = Rule(When(stays_local=True), OTHER)
    route = Route(SMART, Strategy.IN_ORDER, (SMART,), local_only=True, rules=(rule,))
    assert apply_rules(route, ASKING, NOON).route.targets == OTHER


def test_the_first_rule_that_applies_decides_alone() -> None:
    rules = (
        Rule(When(has_tools=True), OTHER),
        Rule(When(has_tools=False), strategy=Strategy.CLOUD_FIRST),
        Rule(When(stays_local=False), OTHER),
    )
    ruled = apply_rules(Route(SMART, Strategy.IN_ORDER, (SMART,), rules=rules), ASKING, NOON)
    assert (ruled.route.targets, ruled.route.strategy) == ((SMART,), Strategy.CLOUD_FIRST)
    assert [(each.number, each.applies) for each in ruled.considered] == [(1, False), (2, True)]


WHENS: Any = st.builds(
    When,
    models=st.frozensets(st.sampled_from(["smart", "gpt-4o"]).map(ModelId)),
    users=st.frozensets(st.sampled_from(["uid:0", "uid:1000"])),
    least_prompt=st.none() | st.integers(0, 9).map(Bytes),
    most_prompt=st.none() | st.integers(0, 9).map(Bytes),
    has_tools=st.none() | st.booleans(),
    from_minute=st.none() | st.integers(0, 1439),
    until_minute=st.none() | st.integers(0, 1439),
    on_battery=st.none() | st.booleans(),
    stays_local=st.none() | st.booleans(),
)


@given(
    st.lists(WHENS, max_size=4),
    st.builds(
        Asking,
        st.sampled_from(["smart", "gpt-4o"]).map(ModelId),
        st.sampled_from(["uid:0", "uid:1000"]),
        st.integers(0, 9).map(Bytes),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(Situation, st.integers(0, 1439), st.none() | st.booleans()),
)
def test_one_rule_applies_at_most_and_it_is_the_last_that_was_looked_at(
    whens: list[When], asking: Asking, situation: Situation
) -> None:
    rules = tuple(Rule(when, (ModelId(f"m{number}"),)) for number, when in enumerate(whens, 1))
    route = Route(SMART, Strategy.IN_ORDER, OTHER, rules=rules)
    ruled = apply_rules(route, asking, situation)
    applied = [each.number for each in ruled.considered if each.applies]
    if applied:
        assert applied == [ruled.considered[-1].number]
        assert ruled.route.targets == (ModelId(f"m{applied[0]}"),)
    else:
        assert (ruled.route, len(ruled.considered)) == (route, len(whens))
    assert all(each.why for each in ruled.considered if whens[each.number - 1] != When())
