"""Whoever answers requests, and the choice between them, put together."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unified_llm.app import routing_terms, terms
from unified_llm.app.beside import running
from unified_llm.app.engine import Engine
from unified_llm.app.ledger import Ledger, open_ledger
from unified_llm.app.plan import Plan
from unified_llm.app.strategies import Strategies
from unified_llm.domain.errors import UnavailableError
from unified_llm.domain.events import BudgetNearlySpent
from unified_llm.domain.ports import Backend, Embedder, EventSink, Timers
from unified_llm.host.clock import minute_of_day, today
from unified_llm.operations.embedding import Embedding
from unified_llm.operations.gate import Gate
from unified_llm.operations.inference import Inference
from unified_llm.operations.models import Models
from unified_llm.operations.prospects import Prospects
from unified_llm.operations.routes import Routes
from unified_llm.operations.spending import Spending
from unified_llm.registry.store import Store
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.budget import Budgets, Limit
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.router import Router
from unified_llm.routing.rules import Situation
from unified_llm.routing.vectors import VectorRouter
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.money import MoneySettings

if TYPE_CHECKING:
    from unified_llm.app.providers import Providers


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answering:
    """What answers requests. providers: None if the settings name none."""

    routes: Routes
    inference: Inference
    embedding: Embedding
    health: Health
    spending: Spending
    providers: "Providers | None"

    def follow(self, settings: Settings, strategies: Strategies, limits: Sequence[Limit]) -> None:
        """Route and count by these from the next request on; what is under way stays as it began.

        What it costs counts under the new budgets all the same. limits: the budgets of `settings`.
        """
        routing, money = settings.routing, settings.money
        self.routes.follow(routing_terms.route_book(routing, strategies))
        self.health.follow(routing_terms.breaker_policy(routing))
        router = self.inference.router
        router.policy = routing_terms.attempt_policy(routing)
        router.budget.share = routing.retry_percent / 100
        accounts = router.accounts
        accounts.prices = terms.prices(money)
        accounts.budgets.follow(limits)
        accounts.assumed_output = money.assumed_output_tokens
        accounts.assumed_image = money.assumed_image_tokens

    def complaints(self) -> tuple[str, ...]:
        """A sentence for each thing that does not work as configured."""
        nobody = (
            f"budget {limit.name} names the group {group}, which this machine does not know: until "
            "a reload finds it, the budget holds for everybody"
            for limit in self.spending.budgets.limits
            for group in limit.unknown_groups
        )
        of_providers = self.providers.complaints() if self.providers else ()
        return (*of_providers, *self.routes.complaints(), *nobody)


@asynccontextmanager
async def open_answering(
    plan: Plan,
    gate: Gate,
    models: Models,
    engine: Engine,
    timers: Timers,
    store: Store,
    sink: EventSink,
) -> AsyncIterator[Answering]:
    """The providers of the settings, beside the models of this machine.

    store: keeps what is used. sink: told of budgets that are nearly spent.
    """
    routing = plan.settings.routing
    async with open_ledger(store) as ledger, _open_providers(plan, timers, models) as providers:
        directory = Directory[Backend](engine.backend, providers.backends() if providers else {})
        budget = RetryBudget(routing.retry_percent / 100)
        health = Health(
            plan.settings.providers, routing_terms.breaker_policy(routing), random.random
        )
        accounts = await _open_accounts(plan.settings.money, ledger, sink)
        latencies, policy = Latencies(), routing_terms.attempt_policy(routing)
        router = Router(directory, health, accounts, latencies, timers, policy, budget)
        book = routing_terms.route_book(routing, plan.strategies)
        routes = Routes(
            gate,
            models,
            Prospects(models, directory, health, accounts, latencies, gate.clock),
            book,
            lambda: Situation(minute_of_day(), engine.neighbourhood.now.on_battery),
        )
        inference = Inference(gate, routes, router)
        vectors = VectorRouter(
            Directory[Embedder](engine.vectors, providers.on if providers else {}), router
        )
        embedding = Embedding(gate, models, routes, vectors, engine.vectors)
        spending = Spending(gate, ledger, accounts.budgets, today)
        yield Answering(routes, inference, embedding, health, spending, providers)


async def _open_accounts(money: MoneySettings, ledger: Ledger, sink: EventSink) -> Accounts:
    """Accounts that know what was spent this month."""

    def warn(warning: BudgetNearlySpent) -> None:
        _log.warning("%s", warning.sentence)
        sink(warning)

    # In threads, here and below: a name service of the network may take seconds to answer.
    budgets = Budgets(await asyncio.to_thread(terms.limits, money), warn)
    try:
        # Also where there is no budget yet: a reload may bring one.
        earlier = await ledger.since(f"{today()[:7]}-01")
        known = await asyncio.to_thread(_gids, {each.principal for each in earlier})
        budgets.recall(earlier, known.__getitem__)
    except UnavailableError as error:
        if budgets.limits:
            raise
        _log.warning("what was spent before this start is not known: %s", error)
    return Accounts(
        terms.prices(money),
        budgets,
        today,
        ledger.add,
        assumed_output=money.assumed_output_tokens,
        assumed_image=money.assumed_image_tokens,
    )


def _gids(principals: Collection[str]) -> dict[str, frozenset[int]]:
    return {each: terms.gids_of(each) for each in principals}


@asynccontextmanager
async def _open_providers(
    plan: Plan, timers: Timers, models: Models
) -> AsyncIterator["Providers | None"]:
    """Those of the settings, at work; None if there are none."""
    if not plan.settings.providers:
        yield None
        return
    # Only here, for the 14 MiB that aiohttp takes once it is imported.
    from unified_llm.app.providers import open_providers

    opening = open_providers(plan.settings.providers, plan.credentials, timers)
    async with opening as providers, running(providers.run(models)):
        yield providers
