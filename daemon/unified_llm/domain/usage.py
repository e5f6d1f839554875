"""What was used, by whom and of whom: a line of the ledger."""

from dataclasses import dataclass

from unified_llm.domain.chat import Usage
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money


@dataclass(frozen=True, slots=True)
class UsageLine:
    """Answers of one model for one principal on one day (UTC, `2026-11-22`).

    provider: `local` for this machine. cost: of those answers whose price is known. unpriced: how
    many are not in it. estimated: how many are in it at the most they can have cost, because they
    were broken off before anybody told.
    """

    day: str
    principal: str
    provider: str
    model: ModelId
    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Money = Money(0)
    unpriced: int = 0
    estimated: int = 0

    @property
    def key(self) -> tuple[str, str, str, ModelId]:
        """What lines are kept by."""
        return self.day, self.principal, self.provider, self.model

    def with_tokens(self, usage: Usage) -> "UsageLine":
        """The same line with the tokens of one answer."""
        return UsageLine(
            *self.key,
            answers=self.answers,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens or 0,
            cost=self.cost,
            unpriced=self.unpriced,
            estimated=self.estimated,
        )

    def plus(self, other: "UsageLine") -> "UsageLine":
        """Both together; `other` has the same key."""
        return UsageLine(
            *self.key,
            answers=self.answers + other.answers,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cost=Money(self.cost + other.cost),
            unpriced=self.unpriced + other.unpriced,
            estimated=self.estimated + other.estimated,
        )
