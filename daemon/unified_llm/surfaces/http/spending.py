"""Usage and budgets, as the wire tells of them."""

from decimal import Decimal

from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.money import DOLLAR, Money
from unified_llm.operations.spending import SpendingReport
from unified_llm.wire import native

DEFAULT_DAYS = 30


def parse_days(text: str | None) -> int:
    """How many days a query asks for. Raises InvalidRequest."""
    if text is None:
        return DEFAULT_DAYS
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidRequest(f"days is {text[:20]!r}; send a whole number.", parameter="days")
    return int(text)


def spending_body(report: SpendingReport) -> native.UsageReportBody:
    """What was used, and how budgets stand."""
    return native.UsageReportBody(
        lines=tuple(
            native.UsageLineBody(
                day=line.day,
                principal=line.principal,
                provider=line.provider,
                model=line.model,
                answers=line.answers,
                prompt_tokens=line.prompt_tokens,
                completion_tokens=line.completion_tokens,
                cached_tokens=line.cached_tokens,
                cache_write_tokens=line.cache_write_tokens,
                reasoning_tokens=line.reasoning_tokens,
                dollars=_dollars(line.cost),
                unpriced=line.unpriced,
                estimated=line.estimated,
            )
            for line in report.lines
        ),
        budgets=tuple(
            native.BudgetBody(
                name=each.budget,
                period=each.period,
                principal=each.principal,
                limit_dollars=_dollars(each.limit),
                used_dollars=_dollars(each.used),
            )
            for each in report.budgets
        ),
    )


def _dollars(amount: Money) -> str:
    """Exact, as text: a JSON number would be read as a float."""
    return format((Decimal(amount) / DOLLAR).normalize(), "f")
