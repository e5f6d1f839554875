from unified_llm.domain.units import Bytes, Instant, Seconds
from unified_llm.scheduler.backoff import Backoff
from unified_llm.scheduler.policy import SchedulingPolicy

POLICY = SchedulingPolicy(ram_budget=Bytes(1))


def test_nothing_waits_before_the_first_failure() -> None:
    backoff = Backoff(POLICY, lambda: 1.0)
    assert backoff.may_retry(Instant(0))
    assert backoff.remaining(Instant(0)) is None


def test_the_delay_doubles_up_to_the_last_and_never_beyond() -> None:
    backoff, now, delays = Backoff(POLICY, lambda: 1.0), Instant(0), list[float | None]()
    for _ in range(2000):
        # Apart enough not to be exhausted, near enough to be one row.
        now = Instant(now + 200)
        backoff.failed(now)
        delays.append(backoff.remaining(now))
    assert delays[:10] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]
    assert set(delays[10:]) == {300.0}


def test_jitter_shortens_the_delay_by_a_quarter_at_most() -> None:
    backoff = Backoff(POLICY, lambda: 0.0)
    backoff.failed(Instant(10))
    assert backoff.retry_at == 10.75


def test_a_window_without_failure_ends_the_row() -> None:
    backoff = Backoff(POLICY, lambda: 1.0)
    backoff.failed(Instant(0))
    backoff.failed(Instant(1))
    backoff.failed(Instant(1 + 600.5))
    assert backoff.remaining(Instant(600.5 + 1)) == Seconds(1)


def test_too_many_failures_hold_until_the_first_of_them_leaves_the_window() -> None:
    backoff = Backoff(POLICY, lambda: 1.0)
    for second in (0, 10, 20, 30):
        backoff.failed(Instant(second))
        assert not backoff.is_exhausted(Instant(second))
    backoff.failed(Instant(40))
    assert backoff.is_exhausted(Instant(599))
    assert backoff.remaining(Instant(40)) == Seconds(560)
    assert not backoff.is_exhausted(Instant(600))
    backoff.failed(Instant(601))
    assert backoff.is_exhausted(Instant(601))


def test_forgiving_clears_everything() -> None:
    backoff = Backoff(POLICY, lambda: 1.0)
    for _ in range(5):
        backoff.failed(Instant(0))
    backoff.forgive()
    assert backoff.may_retry(Instant(0))
    assert not backoff.is_exhausted(Instant(0))
