"""Limits on money: what a request may cost at most is set aside before it is made.

Rule 1: spent and set aside together never exceed a limit, however many requests come at once. All
of this is synchronous, so that between the look and the act nobody else acts.
Rule 2: a request counts in the period in which it was made, whenever it ends.
Rule 3: where a limit applies, a price that is not known is no price of zero: it is refused.
Rule 4: limits that change are kept as if they had always been: what was spent, and what is set
aside just now, counts under the new ones.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from unified_llm.domain.errors import BudgetSpent
from unified_llm.domain.events import BudgetNearlySpent
from unified_llm.domain.money import Money, render_dollars
from unified_llm.domain.usage import UsageLine


class Period(StrEnum):
    """How long a limit is for; days and months of UTC."""

    DAY = "day"
    MONTH = "month"

    def of(self, day: str) -> str:
        """The period that `day` (`2026-11-22`) is in: the day, or its month."""
        return day if self is Period.DAY else day[:7]


@dataclass(frozen=True, slots=True)
class Use:
    """What money is spent on. gids: the groups of `principal`, as the kernel told or as known."""

    principal: str
    provider: str
    day: str
    gids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Limit:
    """users, groups: of whom; none of both for everybody. provider: None for all of them.

    groups: None if the budget names none. unknown_groups: those that it names and nobody knows: as
    long as there are any it counts for everybody, for anybody may be in them.
    is_shared: one amount for all of them together, instead of one for each. warn_percent: spent
    when somebody is told.
    """

    name: str
    amount: Money
    period: Period
    users: frozenset[str] = frozenset()
    groups: frozenset[int] | None = None
    unknown_groups: tuple[str, ...] = ()
    provider: str | None = None
    is_shared: bool = False
    warn_percent: int = 80

    @property
    def is_of_everybody(self) -> bool:
        """Whether it names neither users nor groups."""
        return not self.users and self.groups is None

    def is_of(self, principal: str, gids: frozenset[int]) -> bool:
        """Whether it names `principal`, who is in these groups, or everybody."""
        if self.is_of_everybody:
            return True
        return principal in self.users or not gids.isdisjoint(self.groups or ())

    def applies_to(self, use: Use) -> bool:
        """Whether it counts here."""
        is_of_them = bool(self.unknown_groups) or self.is_of(use.principal, use.gids)
        return is_of_them and self.provider in {None, use.provider}

    def account(self, use: Use) -> "AccountKey":
        """Where it counts."""
        principal = "" if self.is_shared else use.principal
        return AccountKey(self.name, principal, self.period.of(use.day))


@dataclass(frozen=True, slots=True)
class AccountKey:
    """limit: its name. principal: empty for all together."""

    limit: str
    principal: str
    period: str


@dataclass(slots=True)
class Account:
    """What is spent, and what is set aside for requests under way."""

    spent: int = 0
    held: int = 0
    is_warned: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """Money that is set aside until it is settled."""

    amount: Money
    use: Use


GidsOf = Callable[[str], frozenset[int]]
"""Takes a principal; its groups, as far as they are known."""

Warn = Callable[[BudgetNearlySpent], None]
"""Is told of a budget that is nearly spent, and returns at once."""


@dataclass(slots=True)
class Budgets:
    """All limits and their accounts. warn: told once for each account that is nearly spent."""

    limits: Sequence[Limit] = ()
    warn: Warn = lambda warning: None
    _accounts: dict[AccountKey, Account] = field(default_factory=dict)
    _open: set[Reservation] = field(default_factory=set)
    # Of the present month.
    _spent: Counter[Use] = field(default_factory=Counter)
    _month: str = ""

    def recall(self, earlier: Iterable[UsageLine], gids_of: GidsOf = lambda _: frozenset()) -> None:
        """Take what was spent before this start. gids_of: whom it is counted for today."""
        for each in earlier:
            gids = gids_of(each.principal)
            self._spend(Use(each.principal, each.provider, each.day, gids), each.cost)

    def follow(self, limits: Sequence[Limit]) -> None:
        """Keep these from now on. Who was told of one that stays as it is, is not told again."""
        before, self._accounts = self._accounts, {}
        kept = {limit.name for limit in limits if limit in self.limits}
        self.limits = limits
        for use, cost in self._spent.items():
            for key in self._keys(use):
                self._at(key).spent += cost
        for each in self._open:
            for key in self._keys(each.use):
                self._at(key).held += each.amount
        for key, account in before.items():
            if key.limit in kept:
                self._at(key).is_warned = account.is_warned

    def reserve(self, use: Use, amount: Money | None) -> Reservation:
        """Set `amount` aside under every limit that applies. Raises BudgetSpent, setting none."""
        applying = [each for each in self.limits if each.applies_to(use)]
        if amount is None:
            if applying:
                raise BudgetSpent(
                    f"The price of what {use.provider} was asked for is not known, and the budget "
                    f"{applying[0].name} applies.",
                    hint="The operator can set it under `money.prices`.",
                )
            amount = Money(0)
        for limit in applying:
            self._ensure_left(limit, limit.account(use), amount)
        for key in self._keys(use):
            self._at(key).held += amount
        self._forget_before(use.day)
        reservation = Reservation(amount, use)
        self._open.add(reservation)
        return reservation

    def settle(self, reservation: Reservation, cost: Money) -> None:
        """What was set aside is free again, and `cost` is spent."""
        self._open.remove(reservation)
        self._spend(reservation.use, cost)
        for key in self._keys(reservation.use):
            account = self._at(key)
            account.held -= reservation.amount
            self._warn_if_due(key, account)

    def spent(self) -> Mapping[AccountKey, Money]:
        """What is spent and set aside, by account."""
        return {key: Money(each.spent + each.held) for key, each in self._accounts.items()}

    def _warn_if_due(self, key: AccountKey, account: Account) -> None:
        limit = next(each for each in self.limits if each.name == key.limit)
        if account.is_warned or account.spent * 100 < limit.amount * limit.warn_percent:
            return
        account.is_warned = True
        spent, whose = Money(account.spent), key.principal or None
        self.warn(BudgetNearlySpent(limit.name, key.period, whose, spent, limit.amount))

    def _ensure_left(self, limit: Limit, key: AccountKey, amount: Money) -> None:
        account = self._at(key)
        left = limit.amount - account.spent - account.held
        if amount > left:
            raise BudgetSpent(
                f"Budget {limit.name} has {render_dollars(Money(max(left, 0)))} of "
                f"{render_dollars(limit.amount)} dollars left for this {limit.period.value}; the "
                f"request may cost {render_dollars(amount)}.",
                hint="Ask for fewer tokens, or another model.",
            )

    def _spend(self, use: Use, cost: Money) -> None:
        self._spent[use] += cost
        for key in self._keys(use):
            self._at(key).spent += cost

    def _keys(self, use: Use) -> list[AccountKey]:
        return [limit.account(use) for limit in self.limits if limit.applies_to(use)]

    def _forget_before(self, day: str) -> None:
        """What was spent in earlier months counts nowhere any more."""
        month = Period.MONTH.of(day)
        if month > self._month:
            self._month = month
            old = [each for each in self._spent if Period.MONTH.of(each.day) < month]
            for each in old:
                del self._spent[each]

    def _at(self, key: AccountKey) -> Account:
        return self._accounts.setdefault(key, Account())
