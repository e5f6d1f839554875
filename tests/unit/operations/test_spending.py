"""Everybody sees their own, and administrators everybody's."""

from decimal import Decimal

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.house import ADMIN, ANSWER, OTHER_USER, ROOT, USER, open_house
from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatRequest, Message, Role
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import DOLLAR, Money, Price, per_million
from unified_llm.domain.providers import ProviderKind, RemoteModel
from unified_llm.routing.budget import Limit, Period

FAR = ModelId("far/model")
REMOTE = RemoteModel(FAR, "far", ProviderKind.OPENAI, "model")
PRICE = Price(per_million(Decimal(1)), per_million(Decimal(2)), per_million(Decimal("0.1")))
LIMITS = [
    Limit("each", Money(DOLLAR), Period.DAY),
    Limit("all", Money(9 * DOLLAR), Period.MONTH, is_shared=True),
]


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
    shared = next(each for each in report.budgets if each.principal is None)
    assert (shared.period, shared.used) == ("2026-11", 16_200_000)


async def test_a_year_is_the_most() -> None:
    async with open_house() as house:
        with pytest.raises(InvalidRequest, match="from 1 to 366"):
            await house.spending.report(USER, 367)
