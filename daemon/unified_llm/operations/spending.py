"""What was used and what it cost, for those whose it is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Protocol

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.money import Money
from unified_llm.domain.usage import UsageLine
from unified_llm.guard.permissions import Action, Role
from unified_llm.operations.gate import Gate
from unified_llm.routing.budget import Budgets

MAX_DAYS: Final = 366


class KeepsUsage(Protocol):
    """Where lines are kept."""

    async def since(self, day: str, principal: str | None = None) -> tuple[UsageLine, ...]:
        """All that was used on `day` and later; principal: by this one only."""


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """An account of a budget. principal: None for all together. used: set aside included."""

    budget: str
    period: str
    principal: str | None
    limit: Money
    used: Money


@dataclass(frozen=True, slots=True)
class SpendingReport:
    """lines: the latest day first. budgets: of the present day and month, where any is used."""

    lines: tuple[UsageLine, ...]
    budgets: tuple[BudgetStanding, ...]


@dataclass(frozen=True, slots=True)
class Spending:
    """Reports; root and the daemon's administrators see everybody's, others their own."""

    gate: Gate
    ledger: KeepsUsage
    budgets: Budgets
    today: Callable[[], str]

    async def report(self, caller: Caller, days: int) -> SpendingReport:
        """The last `days`, today included. Raises InvalidRequest, StoreUnavailable."""
        with self.gate.open_entry(caller, Action.READ, "usage"):
            if not 1 <= days <= MAX_DAYS:
                raise InvalidRequest(
                    f"days is {days}; it must be from 1 to {MAX_DAYS}.", parameter="days"
                )
            whose = None if self._sees_all(caller) else caller.principal
            today = date.fromisoformat(self.today())
            first = (today - timedelta(days=days - 1)).isoformat()
            lines = await self.ledger.since(first, whose)
            return SpendingReport(lines, self._standings(today.isoformat(), whose))

    def concerns(self, caller: Caller, principal: str) -> bool:
        """Whether what `principal` spends is for `caller` to know."""
        return caller.principal == principal or self._sees_all(caller)

    def _sees_all(self, caller: Caller) -> bool:
        return bool(self.gate.permissions.roles_of(caller) & {Role.ROOT, Role.ADMIN})

    def _standings(self, day: str, whose: str | None) -> tuple[BudgetStanding, ...]:
        limits = {limit.name: limit for limit in self.budgets.limits}
        found = []
        for key, used in sorted(self.budgets.spent().items(), key=lambda each: str(each[0])):
            limit = limits[key.limit]
            is_visible = whose is None or key.principal in {"", whose}
            if key.period == limit.period.of(day) and is_visible:
                principal = key.principal or None
                found.append(BudgetStanding(limit.name, key.period, principal, limit.amount, used))
        return tuple(found)
