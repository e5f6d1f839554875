"""Money and what tokens cost, exactly: no amount is ever a float.

A price of 0.028 dollars per million tokens is 28,000 picodollars per token, so prices with up to
six decimals, and every sum of them, are whole numbers.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NewType

Money = NewType("Money", int)
"""Picodollars: 10^-12 US dollars."""

DOLLAR: Final = 10**12
_MILLION: Final = 10**6


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's provider asks for each token.

    cached: for a token of the prompt that was read from its cache; cache_write: that was kept for
    minutes; long_cache_write: for hours. reasoning: for one that was thought and not said. None if
    no such price is known; thought is then paid as what is said.
    """

    input: Money
    output: Money
    cached: Money | None = None
    cache_write: Money | None = None
    reasoning: Money | None = None
    long_cache_write: Money | None = None


def per_million(dollars: Decimal) -> Money:
    """The price of a token at `dollars` per million; digits after the sixth are rounded."""
    return Money(int((dollars * DOLLAR / _MILLION).to_integral_value()))


def render_dollars(amount: Money) -> str:
    """Text for people: `0.001234`, with as many digits as a token's price needs."""
    return f"{Decimal(amount) / DOLLAR:.6f}"
