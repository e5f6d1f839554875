"""What answers cost, from a provider's bytes to the ledger, against bills worked out by hand.

Each amount is what the provider's price list says to do with the figures that its answer tells, in
millionths of a dollar: a token at one dollar per million costs one of them. tests/exchanges has the
answers, and says where they are from.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.exchange import FakeExchange
from tests.fakes.house import TODAY, USER
from tests.fakes.timers import FakeTimers
from tests.unit.routing.targets import far, plan_of
from unified_llm.app import terms
from unified_llm.domain.chat import ChatRequest, Finished, Message, Role
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import DOLLAR
from unified_llm.domain.providers import ProviderKind
from unified_llm.domain.usage import UsageLine
from unified_llm.providers.backend import Deadlines, Provider
from unified_llm.providers.kinds import APIS
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.attempts import AttemptPolicy
from unified_llm.routing.breaker import BreakerPolicy
from unified_llm.routing.budget import Budgets
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.router import Router
from unified_llm.settings.sections.money import MoneySettings

EXCHANGES = Path(__file__).parents[1] / "exchanges"


@dataclass(frozen=True, slots=True)
class Bill:
    """An answer, what its provider asked for a million tokens on a day, and what it comes to.

    millionths: None if it can not be known. tokens: prompt, completion, cached, kept, thought.
    """

    kind: ProviderKind
    prices: dict[str, Any]
    millionths: str | None
    tokens: tuple[int, int, int, int, int]


# Prices of the lists at openai.com/api/pricing, api-docs.deepseek.com and anthropic.com/pricing.
O4_MINI = {"input": 1.10, "cached": 0.275, "output": 4.40, "as_of": "2025-06-01"}
DEEPSEEK_V3 = {"input": 0.27, "cached": 0.07, "output": 1.10, "as_of": "2025-02-08"}
DEEPSEEK_R1 = {"input": 0.55, "cached": 0.14, "output": 2.19, "as_of": "2025-02-08"}
# Of the price of input: a tenth for what is read from the cache, five quarters for what is kept in
# it for five minutes, and twice as much for an hour.
SONNET = {
    "input": 3,
    "cached": 0.30,
    "cache_write": 3.75,
    "long_cache_write": 6,
    "output": 15,
    "as_of": "2025-10-01",
}
OWN = {"input": 0.10, "output": 0.40, "as_of": "2025-11-01"}
NOTHING = {"input": 0, "output": 0, "as_of": "2025-11-01"}

BILLS = {
    # OpenAI counts what was cached within the prompt, and what was thought within the completion:
    # (2006 - 1920) x 1.10 + 1920 x 0.275 + 300 x 4.40 = 94.6 + 528 + 1320.
    "openai.sse": Bill(ProviderKind.OPENAI, O4_MINI, "1942.6", (2006, 300, 1920, 0, 192)),
    # The same of input_tokens and output_tokens:
    # (2006 - 1024) x 1.10 + 1024 x 0.275 + 300 x 4.40 = 1080.2 + 281.6 + 1320.
    "openai-responses.sse": Bill(
        ProviderKind.OPENAI_RESPONSES, O4_MINI, "2681.8", (2006, 300, 1024, 0, 192)
    ),
    # 64 x 1.10 + 17 x 4.40 = 70.4 + 74.8.
    "openai-responses-tool.sse": Bill(
        ProviderKind.OPENAI_RESPONSES, O4_MINI, "145.2", (64, 17, 0, 0, 0)
    ),
    # DeepSeek: prompt_cache_miss_tokens, prompt_cache_hit_tokens and completion_tokens, each by its
    # price: 3600 x 0.27 + 6400 x 0.07 + 2000 x 1.10 = 972 + 448 + 2200.
    "deepseek-chat.sse": Bill(
        ProviderKind.DEEPSEEK, DEEPSEEK_V3, "3620", (10000, 2000, 6400, 0, 0)
    ),
    # Thinking is output: 72 x 0.55 + 128 x 0.14 + 900 x 2.19 = 39.6 + 17.92 + 1971.
    "deepseek-reasoner.sse": Bill(
        ProviderKind.DEEPSEEK, DEEPSEEK_R1, "2028.52", (200, 900, 128, 0, 700)
    ),
    # Anthropic: input_tokens are those that the cache had nothing to do with:
    # 2095 x 3 + 1800 x 0.30 + 456 x 3.75 + 100 x 6 + 503 x 15 = 6285 + 540 + 1710 + 600 + 7545.
    "anthropic.sse": Bill(ProviderKind.ANTHROPIC, SONNET, "16680", (4451, 503, 1800, 556, 0)),
    # 50 x 3 + 1800 x 0.30 + 200 x 3.75 + 89 x 15 = 150 + 540 + 750 + 1335.
    "anthropic-tool.sse": Bill(ProviderKind.ANTHROPIC, SONNET, "2775", (2050, 89, 1800, 200, 0)),
    "ollama.ndjson": Bill(ProviderKind.OLLAMA, NOTHING, "0", (26, 298, 0, 0, 0)),
    "ollama-uncounted.ndjson": Bill(ProviderKind.OLLAMA, OWN, None, (0, 0, 0, 0, 0)),
    # 1200 x 0.10 + 250 x 0.40 = 120 + 100.
    "vllm.sse": Bill(ProviderKind.OPENAI_COMPATIBLE, OWN, "220", (1200, 250, 0, 0, 0)),
}
MODEL = ModelId("far/model")


@dataclass
class Shop:
    """One provider with a price list, and its ledger."""

    bill: Bill
    exchange: FakeExchange
    prices: dict[str, Any]
    lines: list[UsageLine] = field(default_factory=list)

    def router(self) -> Router:
        money = MoneySettings.model_validate({"prices": {MODEL: self.prices}})
        kind, timers = self.bill.kind, FakeTimers()
        provider = Provider("far", kind, APIS[kind](), self.exchange, timers, Deadlines(), None)
        return Router(
            Directory(provider, {"far": provider}),
            Health(["far"], BreakerPolicy(), lambda: 1.0),
            Accounts(terms.prices(money), Budgets(), lambda: TODAY, self.lines.append),
            Latencies(),
            timers,
            AttemptPolicy(),
            RetryBudget(),
        )

    async def buy(self) -> Finished:
        router = self.router()
        attempts = router.begin(plan_of(far(MODEL)))
        request = ChatRequest(MODEL, (Message(Role.USER, "Why is the sky blue?"),))
        async with router.open_chat(attempts, request, USER) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event
        raise AssertionError("no end")


def shop_of(name: str, **changes: Any) -> Shop:
    bill = BILLS[name]
    exchange = FakeExchange([(EXCHANGES / name).read_bytes()])
    return Shop(bill, exchange, {**bill.prices, **changes})


@pytest.mark.parametrize("name", BILLS)
async def test_an_answer_costs_what_its_provider_would_bill(name: str) -> None:
    shop = shop_of(name)
    end = await shop.buy()
    (line,) = shop.lines
    prompt, completion, cached, kept, thought = shop.bill.tokens
    assert (line.prompt_tokens, line.completion_tokens) == (prompt, completion)
    assert (line.cached_tokens, line.cache_write_tokens) == (cached, kept)
    assert line.reasoning_tokens == thought
    if shop.bill.millionths is None:
        assert end.cost is None
        assert line.estimated == 1
    else:
        assert end.cost == Decimal(shop.bill.millionths) * DOLLAR / 10**6
        assert (line.cost, line.unpriced, line.estimated) == (end.cost, 0, 0)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("openai.sse", "cached"),
        ("deepseek-chat.sse", "cached"),
        ("anthropic.sse", "cached"),
        ("anthropic.sse", "cache_write"),
        ("anthropic.sse", "long_cache_write"),
        ("anthropic-tool.sse", "cache_write"),
    ],
)
async def test_without_a_price_that_the_bill_needs_the_cost_is_unknown(
    name: str, missing: str
) -> None:
    shop = shop_of(name, **{missing: None})
    assert (await shop.buy()).cost is None
    assert [(line.cost, line.unpriced) for line in shop.lines] == [(0, 1)]


def test_every_exchange_has_its_bill() -> None:
    assert BILLS.keys() == {path.name for path in EXCHANGES.iterdir() if path.suffix != ".md"}
