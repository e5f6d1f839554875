"""Vectors of one model: asked for, waited for, paid, and never of another."""

import asyncio
from decimal import Decimal

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.exchange import FakeExchange
from tests.fakes.house import TODAY, USER
from tests.fakes.timers import FakeTimers
from tests.fakes.vectors import FakeVectors
from tests.unit.routing.targets import far, here, plan_of
from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings
from unified_llm.domain.errors import (
    BudgetSpent,
    ContentFiltered,
    InvalidRequest,
    ProviderDenied,
    ProviderDown,
    ProviderFailed,
    ProviderOverloaded,
    ProviderRefused,
    RequestTimedOut,
    TooLarge,
    UnifiedLlmError,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import DOLLAR, Money, Price, per_million
from unified_llm.domain.ports import Embedder
from unified_llm.domain.providers import ProviderKind
from unified_llm.domain.routing import Attempt
from unified_llm.domain.units import Seconds
from unified_llm.domain.usage import UsageLine
from unified_llm.providers.backend import Deadlines, Provider
from unified_llm.providers.kinds import APIS
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.attempts import AttemptPolicy, Attempts
from unified_llm.routing.breaker import BreakerPolicy, BreakerState
from unified_llm.routing.budget import Budgets, Limit, Period
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.plan import Wish
from unified_llm.routing.prices import most_text_tokens
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.router import Router
from unified_llm.routing.vectors import VectorRouter

FAR, NEAR = far("a/x"), here("minilm")
REQUEST = EmbeddingRequest(ModelId("a/x"), ("one", "four"))
# text-embedding-3-small is listed at 0.02 dollars per million tokens; an answer has no tokens.
PRICE = Price(per_million(Decimal("0.02")), Money(0))


class Stage:
    """A provider with a price and a budget, and this machine."""

    def __init__(self, *, dollars: str = "1") -> None:
        self.away, self.local, self.timers = FakeVectors(), FakeVectors(), FakeTimers()
        self.lines: list[UsageLine] = []
        self.budgets = Budgets([Limit("day", Money(int(Decimal(dollars) * DOLLAR)), Period.DAY)])
        self.health = Health(["a"], BreakerPolicy(failures=2), lambda: 1.0)
        router = Router(
            Directory(FakeBackend(), {}),
            self.health,
            Accounts({FAR.model: PRICE}, self.budgets, lambda: TODAY, self.lines.append),
            Latencies(),
            self.timers,
            AttemptPolicy(patience=Seconds(5)),
            RetryBudget(),
        )
        self.vectors = VectorRouter(Directory[Embedder](self.local, {"a": self.away}), router)

    def begin(self, candidate: Candidate = FAR, *, kept_local: str | None = None) -> Attempts:
        return self.vectors.router.begin(plan_of(candidate, wish=Wish(kept_local)))

    async def ask(self, candidate: Candidate = FAR) -> Embeddings | UnifiedLlmError:
        try:
            return await self.vectors.embed(self.begin(candidate), REQUEST, USER)
        except UnifiedLlmError as error:
            return error

    @property
    def used(self) -> Money:
        return Money(sum(self.budgets.spent().values()))


async def test_vectors_are_paid_as_their_provider_counts_them() -> None:
    stage = Stage()
    found = await stage.ask()
    assert isinstance(found, Embeddings)
    assert len(found.vectors) == 2
    assert found.attempts == (Attempt(FAR.model, "a"),)
    assert found.cost == stage.used == Decimal("0.02") * 6 * DOLLAR / 10**6
    (line,) = stage.lines
    assert (line.provider, line.answers, line.prompt_tokens, line.completion_tokens) == (
        "a",
        1,
        6,
        0,
    )
    assert (line.cost, line.unpriced) == (found.cost, 0)


async def test_vectors_of_this_machine_cost_nothing_and_are_written_down() -> None:
    stage = Stage()
    found = await stage.ask(NEAR)
    assert isinstance(found, Embeddings)
    assert found.cost == 0
    assert [(line.provider, line.prompt_tokens) for line in stage.lines] == [("local", 6)]
    assert stage.away.asked == []


async def test_what_a_budget_has_not_left_is_not_asked() -> None:
    stage = Stage(dollars="0.0000001")
    assert isinstance(await stage.ask(), BudgetSpent)
    assert (stage.away.asked, stage.used, stage.lines) == ([], 0, [])


@pytest.mark.parametrize(
    "refusal",
    [
        ContentFiltered("Filtered."),
        InvalidRequest("Odd."),
        ProviderDenied("No key."),
        ProviderDown("Down."),
        ProviderOverloaded("Busy."),
        ProviderRefused("No."),
        TooLarge("Long."),
    ],
    ids=lambda refusal: refusal.code,
)
async def test_vectors_that_are_refused_are_not_paid_and_nobody_else_is_asked(
    refusal: UnifiedLlmError,
) -> None:
    stage = Stage()
    stage.away.refusal = refusal
    assert isinstance(await stage.ask(), UnifiedLlmError)
    assert (stage.used, stage.lines) == (0, [])
    assert (len(stage.away.asked), stage.local.asked) == (1, [])


@pytest.mark.parametrize(
    "fault",
    [
        ProviderFailed("Broke."),
        RequestTimedOut("Late."),
        ProviderRefused("Ignored.", has_answered=True),
    ],
)
async def test_vectors_that_may_have_been_made_are_paid_at_the_most(fault: UnifiedLlmError) -> None:
    stage = Stage()
    stage.away.refusal = fault
    assert isinstance(await stage.ask(), type(fault))
    (line,) = stage.lines
    assert (line.answers, line.estimated) == (1, 1)
    assert line.cost == stage.used == most_text_tokens(REQUEST) * PRICE.input


async def test_whoever_leaves_before_the_vectors_come_pays_the_most() -> None:
    stage = Stage()
    stage.away.hold = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(stage.ask())
        while not stage.away.open:
            await asyncio.sleep(0)
        asking.cancel()
    (line,) = stage.lines
    assert line.estimated == 1
    assert line.cost == stage.used == most_text_tokens(REQUEST) * PRICE.input


async def test_what_fails_on_this_machine_is_not_written_down() -> None:
    stage = Stage()
    stage.local.refusal = RequestTimedOut("Late.")
    assert isinstance(await stage.ask(NEAR), RequestTimedOut)
    assert stage.lines == []


async def test_a_provider_in_trouble_is_left_alone_as_by_chats() -> None:
    stage = Stage()
    stage.away.refusal = ProviderDown("Down.")
    for _ in range(2):
        assert isinstance(await stage.ask(), ProviderDown)
    assert stage.health.refusal("a", stage.timers.now()) is not None
    assert isinstance(await stage.ask(), ProviderOverloaded)
    assert len(stage.away.asked) == 2


async def test_what_a_provider_can_not_do_does_not_say_that_it_is_well_again() -> None:
    stage, exchange, kind = Stage(), FakeExchange(), ProviderKind.DEEPSEEK
    stage.away.refusal = ProviderDown("Down.")
    for _ in range(2):
        await stage.ask()
    real = Provider("a", kind, APIS[kind](), exchange, stage.timers, Deadlines(), None)
    directory = Directory[Embedder](stage.local, {"a": real})
    stage.vectors = VectorRouter(directory, stage.vectors.router)
    await stage.timers.advance(60)
    assert isinstance(await stage.ask(), InvalidRequest)
    (standing,) = stage.health.standings(stage.timers.now())
    assert (exchange.asked, standing.state) == ([], BreakerState.HALF_OPEN)


async def test_what_stays_here_is_told_so() -> None:
    stage = Stage()
    await stage.vectors.embed(stage.begin(NEAR, kept_local="the request"), REQUEST, USER)
    ((asked, _),) = stage.local.asked
    assert isinstance(asked, EmbeddingRequest)
    assert asked.local_only
    assert asked.model == NEAR.model


async def test_uncounted_vectors_are_written_down_at_the_most_they_can_have_cost() -> None:
    stage = Stage()
    stage.away.is_counting = False
    found = await stage.ask()
    assert isinstance(found, Embeddings)
    assert found.cost is None
    (line,) = stage.lines
    assert line.estimated == 1
    assert line.cost == stage.used > 0


@pytest.mark.parametrize("wait", [2.0, 9.0])
async def test_a_provider_that_says_when_is_waited_for_as_long_as_is_granted(wait: float) -> None:
    stage = Stage()
    stage.away.refusal = ProviderOverloaded("Busy.", retry_after=Seconds(wait))
    attempts = stage.begin()
    result: list[object] = []

    async def ask() -> None:
        try:
            result.append(await stage.vectors.embed(attempts, REQUEST, USER))
        except UnifiedLlmError as error:
            result.append(error)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        await stage.timers.advance(0)
        stage.away.refusal = None
        await stage.timers.advance(wait + 1)
    assert isinstance(result[0], Embeddings) == (wait < 5)
