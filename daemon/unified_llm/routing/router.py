"""Carries out plans: asks one target after another until one answers."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatEvent, ChatRequest
from unified_llm.domain.ports import Backend, Timers
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.asking import Desk
from unified_llm.routing.attempts import AttemptPolicy, Attempts
from unified_llm.routing.course import Course
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.plan import Plan
from unified_llm.routing.retry_budget import RetryBudget


@dataclass(slots=True)
class Router:
    """policy: of requests to come. budget: of all requests together."""

    directory: Directory[Backend]
    health: Health
    accounts: Accounts
    latencies: Latencies
    timers: Timers
    policy: AttemptPolicy
    budget: RetryBudget

    def begin(self, plan: Plan) -> Attempts:
        """The attempts of a request about to be made; they tell afterwards who was asked."""
        return Attempts(plan, self.policy, self.budget)

    def open_chat(
        self, attempts: Attempts, request: ChatRequest, caller: Caller
    ) -> AbstractAsyncContextManager[AsyncIterator[ChatEvent]]:
        """The answer of the first target that gives one; entered when its first event is there.

        Leaving stops it. Raises, on entry or while iterating, any UnifiedLlmError.
        """
        desk = Desk(self.directory, self.health, self.accounts, self.latencies, self.timers)
        return Course(desk, attempts, request, caller)
