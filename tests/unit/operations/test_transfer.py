"""operations.transfer."""

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.units import Bytes, Instant, Seconds
from unified_llm.operations.transfer import Transfer


def test_a_rate_needs_two_counts_that_lie_apart() -> None:
    transfer = Transfer(Bytes(1000), Bytes(0), Instant(0))
    assert (transfer.rate, transfer.remaining, transfer.share) == (None, None, 0)
    transfer.see(Bytes(100), Instant(0.1))
    assert (transfer.rate, transfer.remaining, transfer.share) == (None, None, 0.1)
    transfer.see(Bytes(200), Instant(2))
    assert (transfer.rate, transfer.share) == (100, 0.2)
    assert transfer.remaining == Seconds(8)


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    transfer = Transfer(Bytes(100_000), Bytes(0), Instant(0))
    for second in range(1, 6):
        transfer.see(Bytes(second * 1000), Instant(second))
    for second in range(6, 26):
        transfer.see(Bytes(5000 + (second - 5) * 10), Instant(second))
    assert transfer.rate == 10


def test_what_stands_still_has_no_expected_end() -> None:
    transfer = Transfer(Bytes(1000), Bytes(5), Instant(0))
    transfer.see(Bytes(5), Instant(1))
    assert (transfer.rate, transfer.remaining) == (0, None)
    assert Transfer(Bytes(0), Bytes(0), Instant(0)).share is None


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 2**40)), max_size=100))
def test_no_pace_of_counting_makes_a_rate_that_never_was(steps: list[tuple[float, int]]) -> None:
    total = Bytes(sum(size for _, size in steps))
    now, done = 0.0, 0
    transfer = Transfer(total, Bytes(0), Instant(0))
    for pause, size in steps:
        now, done = now + pause, done + size
        transfer.see(Bytes(done), Instant(now))
        # No rate is measured over less than half a second, so none is above this.
        assert transfer.rate is None or 0 <= transfer.rate <= total / 0.5
        assert transfer.remaining is None or transfer.remaining >= 0
    assert transfer.done == total
