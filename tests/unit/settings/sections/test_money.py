"""The section `money`: amounts are exact, and a price has its day."""

import json
from typing import Any

import pytest

from unified_llm.app import terms
from unified_llm.domain.errors import ConfigurationError
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import DOLLAR
from unified_llm.routing.budget import Use
from unified_llm.settings.load import parse_settings
from unified_llm.settings.sections.money import MoneySettings

PRICE = {"input": 0.28, "output": 0.42, "as_of": "2026-11-22"}


def parsed(money: dict[str, Any]) -> MoneySettings:
    return parse_settings(json.dumps({"money": money}).encode(), source="test").money


def test_prices_and_amounts_are_exact() -> None:
    money = parsed(
        {
            "prices": {"far/a": {**PRICE, "cached": 0.028}},
            "budgets": {"daily": {"dollars": 0.1, "period": "day", "users": ["uid:1"]}},
        }
    )
    found = terms.prices(money)[ModelId("far/a")]
    assert (found.input, found.output, found.cached) == (280_000, 420_000, 28_000)
    assert found.cache_write is None
    (limit,) = terms.limits(money)
    assert limit.amount == DOLLAR // 10
    assert limit.applies_to(Use("uid:1", "far", "2026-11-22"))
    assert not limit.applies_to(Use("uid:2", "far", "2026-11-22"))


def test_groups_are_those_of_this_machine_and_one_that_is_unknown_lets_nobody_off() -> None:
    names = ["root", "no-such-group-here"]
    money = parsed({"budgets": {"a": {"dollars": 1, "groups": names}, "b": {"dollars": 1}}})
    named, for_everybody = terms.limits(money)
    assert (named.groups, named.unknown_groups) == (frozenset([0]), ("no-such-group-here",))
    assert named.applies_to(Use("uid:1", "far", "2026-11-22"))
    assert (for_everybody.groups, for_everybody.unknown_groups) == (None, ())
    assert 0 in terms.gids_of("uid:0")
    for unknown in ("uid:4000000000", "cert:CN=somebody"):
        assert terms.gids_of(unknown) == frozenset()


@pytest.mark.parametrize(
    ("money", "told"),
    [
        ({"prices": {"far/a": {"input": 1, "output": 1}}}, "as_of: is missing"),
        ({"prices": {"far/a": {**PRICE, "as_of": "yesterday!"}}}, "is not a date"),
        ({"prices": {"far/a": {**PRICE, "as_of": "2026-13-01"}}}, "is not a date"),
        ({"prices": {"far/a": {**PRICE, "input": -1}}}, "input: is -1"),
        ({"budgets": {"No Name": {"dollars": 1}}}, "no name of a budget"),
        ({"budgets": {"a": {"dollars": 1, "users": ["bob"]}}}, "users.0"),
        ({"budgets": {"a": {"dollars": 1, "period": "year"}}}, "day or month"),
        ({"budgets": {"a": {"dollars": 1, "groups": ["a b"]}}}, "groups.0"),
    ],
)
def test_what_is_wrong_is_told(money: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        parsed(money)
