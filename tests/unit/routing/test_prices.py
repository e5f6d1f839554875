"""Costs are those of the provider's own arithmetic, exactly."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import ChatRequest, Message, Role, Tool, ToolUse, Usage
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import DOLLAR, Money, Price, per_million, render_dollars
from unified_llm.domain.units import Tokens
from unified_llm.routing.prices import cost_of, most_cost, most_prompt_tokens


def price(given: str, said: str, cached: str | None = None, written: str | None = None) -> Price:
    """Dollars per million tokens, as price lists have them."""
    optional = [None if each is None else per_million(Decimal(each)) for each in (cached, written)]
    return Price(per_million(Decimal(given)), per_million(Decimal(said)), *optional)


def used(
    prompt: int, completion: int, cached: int = 0, written: int = 0, thought: int | None = None
) -> Usage:
    reasoning = None if thought is None else Tokens(thought)
    return Usage(Tokens(prompt), Tokens(completion), Tokens(cached), Tokens(written), reasoning)


# Prices as the providers' lists once had them; what counts here is the arithmetic, worked out by
# hand for each from what its bill multiplies: OpenAI and DeepSeek count cached tokens within the
# prompt, Anthropic beside it (and our Usage adds them up), and all count thought as output.
@pytest.mark.parametrize(
    ("asked", "usage", "dollars"),
    [
        (price("2.00", "8.00", "0.50"), used(1000, 500), "0.006"),
        (price("2.00", "8.00", "0.50"), used(2006, 300, cached=1920), "0.003532"),
        (price("0.28", "0.42", "0.028"), used(10_000, 2000, cached=6400), "0.0020272"),
        (price("0.28", "0.42", "0.028"), used(100, 900, thought=700), "0.000406"),
        # input_tokens 50, cache_creation_input_tokens 200, cache_read_input_tokens 1800.
        (price("3", "15", "0.30", "3.75"), used(2050, 503, 1800, 200), "0.008985"),
    ],
)
def test_the_cost_is_what_the_bill_says(asked: Price, usage: Usage, dollars: str) -> None:
    assert cost_of(asked, usage) == Decimal(dollars) * DOLLAR


def test_a_price_that_is_needed_and_not_known_makes_the_cost_unknown() -> None:
    assert cost_of(price("1", "1"), used(10, 1, cached=1)) is None
    assert cost_of(price("1", "1", "0.1"), used(10, 1, cached=1, written=1)) is None
    assert cost_of(price("1", "1"), used(10, 1)) is not None


ANY_COUNT = st.integers(-5, 30)


@given(ANY_COUNT, ANY_COUNT, ANY_COUNT, ANY_COUNT, st.none() | ANY_COUNT)
def test_whatever_is_counted_no_cost_is_below_zero(
    prompt: int, completion: int, cached: int, written: int, thought: int | None
) -> None:
    asked = price("1", "2", "0.1", "1.25")
    cost = cost_of(asked, used(prompt, completion, cached, written, thought))
    parts = (prompt - cached - written, cached, written, completion - (thought or 0), thought or 0)
    assert (cost is None) == (min(parts) < 0)
    assert cost is None or cost >= 0


@given(st.integers(0, 10**9), st.integers(0, 10**7))
def test_a_million_tokens_cost_what_the_list_says(micro: int, tokens: int) -> None:
    listed = Decimal(micro) / 10**6
    each = per_million(listed)
    assert each * 10**6 == listed * DOLLAR
    assert cost_of(Price(each, each), used(tokens, tokens)) == 2 * tokens * each


TEXTS = st.text(max_size=30)


@given(st.lists(TEXTS, max_size=5), TEXTS, st.none() | st.integers(1, 500))
def test_no_answer_costs_more_than_the_most(
    texts: list[str], schema: str, limit: int | None
) -> None:
    tools = ToolUse((Tool("t", "d", schema),))
    request = ChatRequest(
        ModelId("far/a"),
        tuple(Message(Role.USER, text) for text in texts),
        None if limit is None else Tokens(limit),
        tool_use=tools,
    )
    asked = price("1", "2", "0.1", "1.25")
    prompt = sum(len(text.encode()) for text in (*texts, schema)) + 2
    dearest = used(prompt, limit or 100, written=prompt)
    cost = cost_of(asked, dearest)
    assert cost is not None
    assert cost <= most_cost(asked, most_prompt_tokens(request), limit or 100)


def test_dollars_are_shown_with_six_digits() -> None:
    assert render_dollars(Money(1_234_567_000)) == "0.001235"
