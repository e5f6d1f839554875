"""A breaker opens, waits, tries once, and never waits longer than it was told."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.routing.breaker import Breaker, BreakerPolicy, BreakerState

NOW = Instant(0.0)
POLICY = BreakerPolicy(failures=3, pause=Seconds(10), longest=Seconds(40))


def fail(breaker: Breaker, times: int = 1, *, now: Instant = NOW) -> None:
    for _ in range(times):
        breaker.on_failure(now, None, 1.0)


def test_failures_in_a_row_open_it_and_a_success_between_starts_again() -> None:
    breaker = Breaker(POLICY)
    fail(breaker, 2)
    breaker.on_success(NOW)
    fail(breaker, 2)
    assert breaker.state(NOW) is BreakerState.CLOSED
    fail(breaker)
    assert breaker.state(NOW) is BreakerState.OPEN
    assert breaker.free_at(NOW) == Instant(10)


def test_half_of_the_last_twenty_open_it() -> None:
    breaker = Breaker(POLICY)
    for _ in range(9):
        breaker.on_success(NOW)
        fail(breaker)
    breaker.on_success(NOW)
    assert breaker.state(NOW) is BreakerState.CLOSED
    fail(breaker)
    assert breaker.state(NOW) is BreakerState.OPEN


def test_each_failed_try_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now, pauses = Breaker(POLICY), NOW, []
    fail(breaker, 3)
    for _ in range(4):
        pauses.append(breaker.free_at(now) - now)
        now = breaker.free_at(now)
        assert breaker.on_asked(now)
        fail(breaker, now=now)
    assert pauses == [10, 20, 40, 40]


def test_half_of_a_pause_is_drawn() -> None:
    breaker = Breaker(BreakerPolicy(failures=1, pause=Seconds(10)))
    breaker.on_failure(NOW, None, 0.0)
    assert breaker.free_at(NOW) == Instant(5)


def test_what_is_told_counts_at_once_and_the_latest_word_most() -> None:
    breaker = Breaker(POLICY)
    breaker.on_failure(NOW, Seconds(60), 1.0)
    assert breaker.free_at(NOW) == Instant(60)
    breaker.on_failure(NOW, Seconds(2), 1.0)
    assert breaker.free_at(NOW) == Instant(2)
    fail(breaker, 5)
    assert breaker.free_at(NOW) == Instant(2)


def test_whoever_tried_and_left_lets_the_next_one_try() -> None:
    breaker = Breaker(POLICY)
    fail(breaker, 3)
    then = Instant(10)
    assert breaker.on_asked(then)
    assert not breaker.may_ask(then)
    breaker.on_given_up()
    assert breaker.may_ask(then)


class AnyOrder(RuleBasedStateMachine):
    """Requests begin and end in any order, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(POLICY)
        self.now = NOW
        self.trying = 0
        self.under_way = 0
        self.latest_end = NOW  # no pause may last longer than to here

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.now = Instant(self.now + seconds)

    @rule()
    def ask(self) -> None:
        if self.breaker.may_ask(self.now):
            self.trying += self.breaker.on_asked(self.now)
            self.under_way += 1

    @precondition(lambda self: self.under_way > 0)
    @rule()
    def succeed(self) -> None:
        was = self.breaker.state(self.now)
        self.breaker.on_success(self.now)
        self.under_way -= 1
        if was is not BreakerState.OPEN:
            assert self.breaker.state(self.now) is BreakerState.CLOSED
            self.trying = 0

    @precondition(lambda self: self.under_way > 0)
    @rule(told=st.none() | st.floats(0, 100), draw=st.floats(0, 1))
    def fail(self, told: float | None, draw: float) -> None:
        was = self.breaker.state(self.now)
        pause = None if told is None else Seconds(told)
        self.breaker.on_failure(self.now, pause, draw)
        self.under_way -= 1
        if pause is not None:
            assert self.breaker.free_at(self.now) == later(self.now, pause)
            self.latest_end = later(self.now, pause)
        elif was is not BreakerState.OPEN:
            self.latest_end = max(self.latest_end, later(self.now, POLICY.longest))
        if was is BreakerState.HALF_OPEN or pause is not None:
            self.trying = 0

    @precondition(lambda self: self.trying > 0)
    @rule()
    def leave(self) -> None:
        self.breaker.on_given_up()
        self.trying -= 1
        self.under_way -= 1

    @invariant()
    def one_tries_at_a_time(self) -> None:
        assert self.trying <= 1

    @invariant()
    def no_pause_is_longer_than_told_or_than_the_longest(self) -> None:
        assert self.breaker.free_at(self.now) <= max(self.now, self.latest_end)

    @invariant()
    def closed_asks_and_open_does_not(self) -> None:
        state = self.breaker.state(self.now)
        if state is not BreakerState.HALF_OPEN:
            assert self.breaker.may_ask(self.now) is (state is BreakerState.CLOSED)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
