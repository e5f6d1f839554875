"""What was used and what it cost, for those whose it is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Protocol

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.events import BudgetNearlySpent
from unified_llm.domain.money import Money
from unified_llm.domain.usage import UsageLine
from unified_llm.guard.permissions import Action, Role
from unified_llm.operations.gate import Gate
from unified_llm.routing.budget import Budgets, Limit

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
            reader = None if self._sees_all(caller) else caller
            whose = None if reader is None else reader.principal
            today = date.fromisoformat(self.today())
            first = (today - timedelta(days=days - 1)).isoformat()
            lines = await self.ledger.since(first, whose)
            return SpendingReport(lines, self._standings(today.isoformat(), reader))

    def concerns_all(self, warning: BudgetNearlySpent) -> bool:
        """Whether `warning` is of an account that everybody has a part in."""
        limit = self._limit(warning.budget)
        return warning.principal is None and limit is not None and limit.is_of_everybody

    def concerns(self, caller: Caller, warning: BudgetNearlySpent) -> bool:
        """Whether `warning` is of an account that `caller` has a part in, or may see."""
        has_part = _has_part(caller, self._limit(warning.budget), warning.principal)
        return has_part or self._sees_all(caller)

    def _limit(self, name: str) -> Limit | None:
        # A reload may have taken it away since it was warned of.
        return next((each for each in self.budgets.limits if each.name == name), None)

    def _sees_all(self, caller: Caller) -> bool:
        return bool(self.gate.permissions.roles_of(caller) & {Role.ROOT, Role.ADMIN})

    def _standings(self, day: str, reader: Caller | None) -> tuple[BudgetStanding, ...]:
        """reader: None for one who sees all."""
        limits = {limit.name: limit for limit in self.budgets.limits}
        found = []
        for key, used in sorted(self.budgets.spent().items(), key=lambda each: str(each[0])):
            limit, principal = limits[key.limit], key.principal or None
            is_visible = reader is None or _has_part(reader, limit, principal)
            if key.period == limit.period.of(day) and is_visible:
                found.append(BudgetStanding(limit.name, key.period, principal, limit.amount, used))
        return tuple(found)


def _has_part(caller: Caller, limit: Limit | None, principal: str | None) -> bool:
    """Whether the account of `principal`, or of all together, is one that `caller` draws on."""
    if principal is not None:
        return caller.principal == principal
    return limit is not None and limit.is_of(caller.principal, caller.gids)
