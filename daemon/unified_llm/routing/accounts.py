"""The money side of each request: set aside before it is made, settled when it has ended.

Rule 1: what the provider tells is what is paid; nothing is counted by ourselves. Where it does not
tell, because the answer was broken off, the most it can have cost is written down, and marked.
Rule 2: a request that ended before any content is not paid: it was not taken, or not answered. An
answer that is whole is paid, be it empty or held back by a filter. Vectors come in one piece, so a
provider's are paid from when it was asked, unless it did not take the request.
Rule 3: the models of this machine cost nothing, and what they did is written down all the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatRequest, Usage
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money, Price
from unified_llm.domain.routing import CheaperTarget
from unified_llm.domain.usage import UsageLine
from unified_llm.routing.budget import Budgets, Reservation, Use
from unified_llm.routing.candidates import LOCAL, Candidate
from unified_llm.routing.prices import cost_of, most_cost, most_prompt_tokens

FREE = Price(Money(0), Money(0), Money(0), Money(0))


@dataclass(slots=True)
class Accounts:
    """prices: of requests to come; one under way is settled by the price it was begun with.

    today: the day in UTC, `2026-11-22`. on_line: told of each answer, and returns at once.

    assumed_output: tokens of an answer to a request that sets no limit. assumed_image: tokens of an
    image, which only its provider can count.
    """

    prices: Mapping[ModelId, Price]
    budgets: Budgets
    today: Callable[[], str]
    on_line: Callable[[UsageLine], None]
    assumed_output: int = 4096
    assumed_image: int = 50_000

    def most_prompt(self, request: ChatRequest) -> int:
        """The most tokens that the prompt of `request` is taken to have."""
        images = sum(len(message.images) for message in request.messages)
        return most_prompt_tokens(request) + images * self.assumed_image

    def most(
        self, model: ModelId, backend: str, prompt: int, limit: int | None, choices: int = 1
    ) -> Money | None:
        """The most that a prompt of so many tokens costs there; None if the price is not known.

        limit: tokens of an answer, if the request sets one. choices: answers; the prompt is paid
        once for all of them.
        """
        price = self._price(model, backend)
        said = choices * (self.assumed_output if limit is None else limit)
        return None if price is None else most_cost(price, prompt, said)

    def most_for(self, candidate: Candidate, request: ChatRequest) -> Money | None:
        """The most that `request` costs there; None if the price is not known."""
        prompt = self.most_prompt(request)
        limit, choices = request.max_tokens, request.choices
        return self.most(candidate.model, candidate.backend, prompt, limit, choices)

    def begin(self, candidate: Candidate, held: Money | None, caller: Caller) -> "Charge":
        """Set money aside for a request that is about to be made. Raises BudgetSpent.

        held: the most that it costs; None if that is not known.
        """
        day = self.today()
        price = self._price(candidate.model, candidate.backend)
        reservation = None
        if not candidate.is_local:
            use = Use(caller.principal, candidate.backend, day, caller.gids)
            reservation = self.budgets.reserve(use, held)
        line = UsageLine(day, caller.principal, candidate.backend, candidate.model, answers=1)
        return Charge(self, price, held, reservation, line)

    def cheaper(
        self, others: Iterable[Candidate], usage: Usage, paid: Money
    ) -> CheaperTarget | None:
        """The one of `others` where `usage` costs least; None if none is known to cost less."""
        found, least = None, paid
        for each in others:
            price = self._price(each.model, each.backend)
            cost = None if price is None else cost_of(price, usage)
            if cost is not None and cost < least:
                found, least = CheaperTarget(each.model, each.backend, cost), cost
        return found

    def _price(self, model: ModelId, backend: str) -> Price | None:
        return FREE if backend == LOCAL else self.prices.get(model)


@dataclass(slots=True)
class Charge:
    """The money of one request. Ends with `end`, whatever happens."""

    _accounts: Accounts
    _price: Price | None
    _most: Money | None
    _reservation: Reservation | None
    _line: UsageLine
    _has_begun: bool = False
    _is_settled: bool = field(default=False)

    def began(self) -> None:
        """Content has come, or may have been made, so it will be paid."""
        self._has_begun = True

    def refused(self) -> None:
        """It was not taken after all, so it is not paid."""
        self._has_begun = False

    def finished(self, usage: Usage | None) -> Money | None:
        """The answer is whole. What it cost; None if that is not known."""
        if usage is None:
            self._settle_unknown()
            return None
        cost = None if self._price is None else cost_of(self._price, usage)
        self._settle(cost, self._line.with_tokens(usage))
        return cost

    def broke_off(self) -> Money | None:
        """The answer ends with an error after some content. What it cost; None if not known."""
        self._settle_unknown()
        return Money(0) if self._price is FREE else None

    def end(self) -> None:
        """Nothing more will come."""
        if self._is_settled:
            return
        if self._has_begun:
            self._settle_unknown()
        else:
            self._is_settled = True
            self._release(Money(0))

    def _settle_unknown(self) -> None:
        self._settle(self._most, self._line, is_estimated=self._price is not FREE)

    def _settle(self, cost: Money | None, line: UsageLine, *, is_estimated: bool = False) -> None:
        self._is_settled = True
        self._release(cost)
        extra = UsageLine(
            *line.key,
            cost=cost or Money(0),
            unpriced=cost is None,
            estimated=is_estimated and cost is not None,
        )
        self._accounts.on_line(line.plus(extra))

    def _release(self, cost: Money | None) -> None:
        """cost: None if it is not known; all that was set aside counts as spent then."""
        if self._reservation is not None:
            spent = self._reservation.amount if cost is None else cost
            self._accounts.budgets.settle(self._reservation, spent)
