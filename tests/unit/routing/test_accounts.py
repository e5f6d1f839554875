"""The money of a request, from before it is made until it has ended."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.house import TODAY, USER
from tests.fakes.timers import FakeTimers
from tests.unit.routing.targets import far, here, plan_of
from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    Message,
    Role,
    TextDelta,
    Usage,
)
from unified_llm.domain.errors import (
    BudgetSpent,
    ContentFiltered,
    ProviderDown,
    ProviderFailed,
    ProviderRefused,
    UnifiedLlmError,
)
from unified_llm.domain.images import Image, ImageFormat
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import DOLLAR, Money, Price, per_million
from unified_llm.domain.routing import CheaperTarget
from unified_llm.domain.units import Tokens
from unified_llm.domain.usage import UsageLine
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.attempts import AttemptPolicy
from unified_llm.routing.breaker import BreakerPolicy
from unified_llm.routing.budget import Budgets, Limit, Period
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.router import Router

FAR, TINY = far("a/x"), here("tiny")
REQUEST = ChatRequest(ModelId("a/x"), (Message(Role.USER, "Sky?"),), Tokens(10))
# Nothing for the prompt: ten tokens of answer cost a cent, at most and in fact.
PRICE = Price(Money(0), per_million(Decimal(1000)), Money(0), Money(0))
CENT = Money(DOLLAR // 100)
END = Finished(FinishReason.STOP, Usage(Tokens(7), Tokens(10)))


class Stage:
    """A provider with a price and a budget, and perhaps a model of this machine."""

    def __init__(
        self, *script: ChatEvent | UnifiedLlmError | asyncio.Event, cents: int = 10
    ) -> None:
        self.away = FakeBackend(script)
        self.local = FakeBackend([TextDelta("b"), END])
        self.lines: list[UsageLine] = []
        self.budgets = Budgets([Limit("day", Money(cents * CENT), Period.DAY)])
        prices = {FAR.model: PRICE}
        self.accounts = Accounts(prices, self.budgets, lambda: TODAY, self.lines.append)
        self.router = Router(
            Directory(self.local, {"a": self.away}),
            Health(["a"], BreakerPolicy(failures=1000), lambda: 1.0),
            self.accounts,
            Latencies(),
            FakeTimers(),
            AttemptPolicy(),
            RetryBudget(),
        )

    async def ask(self, *, with_local: bool = False) -> Finished | UnifiedLlmError:
        """How it ends."""
        targets = [FAR, TINY] if with_local else [FAR]
        attempts = self.router.begin(plan_of(*targets))
        try:
            async with self.router.open_chat(attempts, REQUEST, USER) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        return event
        except UnifiedLlmError as error:
            return error
        raise AssertionError("no end")

    @property
    def used(self) -> Money:
        """Spent and set aside."""
        return Money(sum(self.budgets.spent().values()))


async def test_an_answer_is_paid_as_its_provider_counts_it() -> None:
    stage = Stage(TextDelta("a"), replace(END, usage=Usage(Tokens(7), Tokens(5))))
    end = await stage.ask()
    assert isinstance(end, Finished)
    assert end.cost == CENT // 2
    assert stage.used == CENT // 2
    (line,) = stage.lines
    assert (line.principal, line.provider, line.model) == ("uid:1000", "a", "a/x")
    assert (line.answers, line.prompt_tokens, line.completion_tokens) == (1, 7, 5)
    assert (line.cost, line.unpriced, line.estimated) == (CENT // 2, 0, 0)


async def test_what_ended_before_any_content_is_not_paid() -> None:
    stage = Stage(ProviderFailed("Broke."))
    assert isinstance(await stage.ask(), ProviderFailed)
    stage.away.refusal = ProviderDown("Down.")
    assert isinstance(await stage.ask(), ProviderDown)
    assert (stage.used, stage.lines) == (0, [])


@pytest.mark.parametrize(
    ("usage", "cost", "estimated"),
    [(Usage(Tokens(7), Tokens(5)), CENT // 2, 0), (None, CENT, 1)],
)
async def test_an_answer_that_was_held_back_whole_is_paid_all_the_same(
    usage: Usage | None, cost: Money, estimated: int
) -> None:
    stage = Stage(Finished(FinishReason.CONTENT_FILTER, usage))
    assert isinstance(await stage.ask(), ContentFiltered)
    (line,) = stage.lines
    assert (line.cost, line.estimated, stage.used) == (cost, estimated, cost)


async def test_an_answer_that_ignores_what_was_asked_is_paid_at_the_most() -> None:
    stage = Stage(ProviderRefused("Ignored.", has_answered=True))
    assert isinstance(await stage.ask(), ProviderRefused)
    assert [(line.cost, line.estimated) for line in stage.lines] == [(CENT, 1)]
    stage.away.refusal = ProviderRefused("No.")
    assert isinstance(await stage.ask(), ProviderRefused)
    assert (len(stage.lines), stage.used) == (1, CENT)


async def test_what_broke_off_is_written_down_at_the_most_it_can_have_cost() -> None:
    stage = Stage(TextDelta("a"), ProviderFailed("Broke."))
    await stage.ask()
    (line,) = stage.lines
    assert (line.cost, line.estimated, line.completion_tokens) == (CENT, 1, 0)
    assert stage.used == CENT


async def test_whoever_leaves_half_way_pays_the_same() -> None:
    stage = Stage(TextDelta("a"), asyncio.Event())
    attempts = stage.router.begin(plan_of(FAR))
    async with stage.router.open_chat(attempts, REQUEST, USER) as events:
        await anext(events)
        assert stage.used == CENT
    assert [line.estimated for line in stage.lines] == [1]


async def test_without_a_price_the_cost_is_unknown_and_not_zero() -> None:
    stage = Stage(TextDelta("a"), END)
    accounts = replace(stage.accounts, prices={}, budgets=Budgets())
    stage.router = replace(stage.router, accounts=accounts)
    end = await stage.ask()
    assert isinstance(end, Finished)
    assert end.cost is None
    assert [(line.unpriced, line.cost) for line in stage.lines] == [(1, 0)]


async def test_an_answer_under_way_is_paid_by_the_price_it_was_begun_with() -> None:
    go = asyncio.Event()
    stage = Stage(TextDelta("a"), go, END)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(stage.ask())
        while not stage.away.open:
            await asyncio.sleep(0)
        stage.accounts.prices = {FAR.model: replace(PRICE, output=Money(2 * PRICE.output))}
        stage.budgets.follow([Limit("month", Money(10 * CENT), Period.MONTH)])
        assert stage.used == CENT
        go.set()
    end = asking.result()
    assert isinstance(end, Finished)
    assert (end.cost, stage.used) == (CENT, CENT)
    later = await stage.ask()
    assert isinstance(later, Finished)
    assert (later.cost, stage.used) == (2 * CENT, 3 * CENT)


async def test_a_target_of_the_route_that_would_have_cost_less_is_named() -> None:
    stage = Stage(TextDelta("a"), END)
    end = await stage.ask(with_local=True)
    assert isinstance(end, Finished)
    assert end.cheaper == CheaperTarget(TINY.model, "local", Money(0))
    alone = await stage.ask()
    assert isinstance(alone, Finished)
    assert alone.cheaper is None


def test_the_cheapest_is_named_and_nothing_whose_price_is_not_known() -> None:
    others = [far("a/dear"), far("a/same"), far("a/less"), far("a/least"), far("a/odd")]
    cents = {"a/dear": 30, "a/same": 20, "a/less": 10, "a/least": 5}
    prices = {ModelId(name): Price(Money(cost), Money(0)) for name, cost in cents.items()}
    accounts = Accounts(prices, Budgets(), lambda: TODAY, lambda line: None)
    usage = Usage(Tokens(10), Tokens(10))
    least = CheaperTarget(ModelId("a/least"), "a", Money(50))
    assert accounts.cheaper(others, usage, Money(200)) == least
    assert accounts.cheaper(others[:2], usage, Money(200)) is None
    cached = replace(usage, cached_tokens=Tokens(1))
    assert accounts.cheaper(others, cached, Money(200)) is None


async def test_when_the_budget_is_spent_this_machine_answers_for_nothing() -> None:
    stage = Stage(TextDelta("a"), END, cents=1)
    await stage.ask(with_local=True)
    end = await stage.ask(with_local=True)
    assert isinstance(end, Finished)
    assert end.cost == 0
    assert [line.provider for line in stage.lines] == ["a", "local"]
    assert [attempt.code for attempt in end.attempts] == ["budget-spent", None]
    assert isinstance(await stage.ask(), BudgetSpent)
    assert len(stage.away.asked) == 1


async def test_money_for_images_is_set_aside_too() -> None:
    stage = Stage(TextDelta("a"), END)
    image = Image(ImageFormat.GIF, b"GIF89a")
    shown = replace(REQUEST, messages=(Message(Role.USER, "Sky?", images=(image, image)),))
    accounts = replace(stage.accounts, assumed_image=1000)
    assert accounts.most_prompt(shown) - accounts.most_prompt(REQUEST) == 2000
    accounts = replace(accounts, prices={FAR.model: replace(PRICE, input=Money(CENT // 100))})
    accounts.begin(FAR, accounts.most_for(FAR, REQUEST), USER).end()
    with pytest.raises(BudgetSpent):
        accounts.begin(FAR, accounts.most_for(FAR, shown), USER)
    assert stage.used == 0


async def test_several_answers_are_set_aside_with_one_prompt() -> None:
    stage = Stage(TextDelta("a"), END)
    accounts, limit = stage.accounts, REQUEST.max_tokens
    one, two, four = (accounts.most(FAR.model, "a", 1000, limit, count) for count in (1, 2, 4))
    assert one is not None
    assert two is not None
    assert four is not None
    assert four - two == 2 * (two - one) > 0
    charge = accounts.begin(FAR, accounts.most_for(FAR, replace(REQUEST, choices=4)), USER)
    held = stage.used
    charge.end()
    charge = accounts.begin(FAR, accounts.most_for(FAR, REQUEST), USER)
    assert held - stage.used == 3 * (two - one)
    charge.end()


async def test_a_hundred_at_once_spend_what_ten_may() -> None:
    go = asyncio.Event()
    stage = Stage(TextDelta("a"), go, END)
    assert stage.accounts.most(FAR.model, "a", 1000, REQUEST.max_tokens) == CENT
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(stage.ask()) for _ in range(100)]
        while not all(task.done() for task in asking[10:]):
            await asyncio.sleep(0)
        go.set()
    ends = [task.result() for task in asking]
    assert sum(isinstance(end, Finished) for end in ends) == 10
    assert sum(isinstance(end, BudgetSpent) for end in ends) == 90
    assert stage.used == 10 * CENT
    assert len(stage.away.asked) == 10
