"""Everybody sees their own, and administrators everybody's."""

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.house import ADMIN, ANSWER, OTHER_USER, ROOT, USER, open_house
from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatRequest, Message, Role
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.events import BudgetNearlySpent
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import DOLLAR, Money, Price, per_million
from unified_llm.domain.providers import ProviderKind, RemoteModel
from unified_llm.routing.budget import Limit, Period

FAR = ModelId("far/model")
REMOTE = RemoteModel(FAR, "far", ProviderKind.OPENAI, "model")
PRICE = Price(per_million(Decimal(1)), per_million(Decimal(2)), per_million(Decimal("0.1")))
TEACHERS = 4711
LIMITS = [
    Limit("each", Money(DOLLAR), Period.DAY),
    Limit("all", Money(9 * DOLLAR), Period.MONTH, is_shared=True),
    Limit("team", Money(9 * DOLLAR), Period.MONTH, frozenset({"uid:1000"}), is_shared=True),
    Limit("class", Money(DOLLAR), Period.DAY, groups=frozenset({TEACHERS}), is_shared=True),
]

SHARED = [each for each in LIMITS if each.is_shared]


def warning(budget: str) -> BudgetNearlySpent:
    return BudgetNearlySpent(budget, "2026-11", None, Money(8 * DOLLAR), Money(9 * DOLLAR))


@pytest.mark.parametrize(
    ("asker", "seen"),
    [
        (USER, {"uid:1000"}),
        (OTHER_USER, {"uid:1001"}),
        (ADMIN, {"uid:1000", "uid:1001"}),
        (ROOT, {"uid:1000", "uid:1001"}),
    ],
)
async def test_a_report_has_what_its_reader_may_see(asker: Caller, seen: set[str]) -> None:
    away = FakeBackend(ANSWER)
    async with open_house(providers={"far": away}, limits=LIMITS, prices={FAR: PRICE}) as house:
        house.models.replace_remote({FAR: REMOTE})
        for user in (USER, OTHER_USER):
            asked = ChatRequest(FAR, (Message(Role.USER, "Sky?"),))
            async with house.inference.open_chat(user, asked) as events:
                assert [event async for event in events]
        report = await house.spending.report(asker, 1)
    assert {line.principal for line in report.lines} == seen
    # 5 tokens of prompt, 1 of them cached, and 2 of answer: 4 + 0.1 + 4 millionths of a dollar.
    assert {line.cost for line in report.lines} == {8_100_000}
    assert {each.principal for each in report.budgets} == {*seen, None}
    shared = next(each for each in report.budgets if each.budget == "all")
    assert (shared.period, shared.used) == ("2026-11", 16_200_000)


@pytest.mark.parametrize(
    ("reader", "budgets"),
    [
        (USER, {"all", "team"}),
        (OTHER_USER, {"all"}),
        (replace(OTHER_USER, gids=OTHER_USER.gids | {TEACHERS}), {"all", "class"}),
        (ROOT, {"all", "team", "class"}),
    ],
)
async def test_what_some_share_is_for_them_and_administrators_only(
    reader: Caller, budgets: set[str]
) -> None:
    teacher = replace(USER, gids=USER.gids | {TEACHERS})
    away = FakeBackend(ANSWER)
    async with open_house(providers={"far": away}, limits=LIMITS, prices={FAR: PRICE}) as house:
        house.models.replace_remote({FAR: REMOTE})
        asked = ChatRequest(FAR, (Message(Role.USER, "Sky?"),))
        async with house.inference.open_chat(teacher, asked) as events:
            assert [event async for event in events]
        report = await house.spending.report(reader, 1)
        shared = {each.budget for each in report.budgets if each.principal is None}
        told = {each.name for each in SHARED if house.spending.concerns(reader, warning(each.name))}
    assert shared == told == budgets


async def test_only_a_shared_budget_without_names_is_told_to_all() -> None:
    async with open_house(limits=LIMITS) as house:
        told = [each.name for each in SHARED if house.spending.concerns_all(warning(each.name))]
        assert not house.spending.concerns_all(warning("gone"))
        assert not house.spending.concerns(USER, warning("gone"))
        assert house.spending.concerns(ADMIN, warning("gone"))
    assert told == ["all"]


async def test_a_year_is_the_most() -> None:
    async with open_house() as house:
        with pytest.raises(InvalidRequest, match="from 1 to 366"):
            await house.spending.report(USER, 367)
