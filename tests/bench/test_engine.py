"""What the engine's benchmark makes of what it has seen."""

import pytest

from tests.bench.chat_load import Answer, Round
from tests.bench.engine import Comparison, Seen, percentile


def seen(*rounds: tuple[float, tuple[float, ...]]) -> Seen:
    """Rounds of so many seconds, each with answers of 10 tokens whose first came after so long."""
    return Seen(
        [
            Round(
                tuple(Answer(0.0, [first], completion_tokens=10) for first in firsts),
                seconds,
                processor_seconds=seconds / 2,
            )
            for seconds, firsts in rounds
        ]
    )


@pytest.mark.parametrize(
    ("rank", "value"), [(0, 1), (5, 1), (50, 10), (51, 11), (95, 19), (96, 20), (100, 20)]
)
def test_a_percentile_is_one_of_the_values(rank: float, value: float) -> None:
    assert percentile(range(20, 0, -1), rank) == value


def test_rates_are_compared_round_by_round() -> None:
    # A machine that is slow in one round is so for both.
    ours = seen((1.0, (0.1,)), (10.0, (0.1,)), (2.0, (0.1,)))
    theirs = seen((2.0, (0.1,)), (20.0, (0.1,)), (2.0, (0.1,)))
    assert Comparison(ours, theirs).tokens_per_second == 2.0


def test_first_tokens_are_compared_over_all_rounds() -> None:
    ours = seen((1.0, (0.1, 0.2)), (1.0, (0.3, 0.4)))
    theirs = seen((1.0, (0.1, 0.1)), (1.0, (0.1, 0.8)))
    assert Comparison(ours, theirs).first_token_p95 == pytest.approx(0.5)


def test_processor_time_is_for_each_token_of_all_rounds() -> None:
    # 3 answers of 10 tokens, and half of 6 seconds.
    assert seen((2.0, (0.1, 0.1)), (4.0, (0.1,))).processor_ms == pytest.approx(100)
