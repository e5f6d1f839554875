"""Retries are a share of requests."""

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.routing.retry_budget import RetryBudget


@given(st.lists(st.booleans(), max_size=300), st.floats(0, 1))
def test_retries_never_exceed_the_share_and_the_reserve(events: list[bool], share: float) -> None:
    budget = RetryBudget(share, reserve=3)
    requests = retries = 0
    for is_request in events:
        if is_request:
            budget.on_request()
            requests += 1
        elif budget.try_take():
            retries += 1
        assert retries <= 3 + share * requests + 1e-6


def test_a_provider_that_is_down_gets_a_fifth_more_at_most() -> None:
    budget = RetryBudget()
    retries = 0
    for _ in range(10_000):
        budget.on_request()
        retries += budget.try_take()
    assert 2_000 <= retries <= 2_010


def test_what_is_saved_up_is_bounded() -> None:
    budget = RetryBudget(share=1, reserve=2)
    for _ in range(50):
        budget.on_request()
    assert [budget.try_take() for _ in range(3)] == [True, True, False]
