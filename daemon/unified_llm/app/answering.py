"""Whoever answers requests, and the choice between them, put together."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unified_llm.app import terms
from unified_llm.app.beside import running
from unified_llm.app.engine import Engine
from unified_llm.app.plan import Plan
from unified_llm.domain.ports import Timers
from unified_llm.operations.embedding import Embedding
from unified_llm.operations.gate import Gate
from unified_llm.operations.inference import Inference
from unified_llm.operations.models import Models
from unified_llm.operations.routes import Routes
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.router import Router

if TYPE_CHECKING:
    from unified_llm.app.providers import Providers


@dataclass(frozen=True, slots=True)
class Answering:
    """What answers requests. providers: None if the settings name none."""

    routes: Routes
    inference: Inference
    embedding: Embedding
    health: Health
    providers: "Providers | None"

    def complaints(self) -> tuple[str, ...]:
        """A sentence for each thing that does not work as configured."""
        return (*(self.providers.complaints() if self.providers else ()), *self.routes.complaints())


@asynccontextmanager
async def open_answering(
    plan: Plan, gate: Gate, models: Models, engine: Engine, timers: Timers
) -> AsyncIterator[Answering]:
    """The providers of the settings, at work beside the models of this machine."""
    routing = plan.settings.routing
    async with _open_providers(plan, timers, models) as providers:
        directory = Directory(engine.backend, providers.backends() if providers else {})
        budget = RetryBudget(routing.retry_percent / 100)
        health = Health(plan.settings.providers, terms.breaker_policy(routing), random.random)
        router = Router(directory, health, timers, terms.attempt_policy(routing), budget)
        routes = Routes(gate, models, directory, terms.route_book(routing), health)
        inference = Inference(gate, routes, router)
        embedding = Embedding(gate, models, engine.vectors, engine.vectors)
        yield Answering(routes, inference, embedding, health, providers)


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
