"""How long to leave a model alone whose workers keep dying."""

from collections import deque
from collections.abc import Callable

from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.scheduler.policy import SchedulingPolicy

Jitter = Callable[[], float]
"""Draws a fraction from 0 to 1; passed in, so that tests know it."""


class Backoff:
    """The failures of one model's workers, and the delay that follows from them.

    The delay doubles with each failure in a row; the row ends when the window passes without one.
    A quarter of it is jitter, so that models which died together are not loaded together.
    """

    def __init__(self, policy: SchedulingPolicy, jitter: Jitter) -> None:
        self._policy = policy
        self._jitter = jitter
        self._failures: deque[Instant] = deque(maxlen=policy.failures_before_failed)
        self._row = 0
        self.retry_at: Instant | None = None

    def failed(self, now: Instant) -> None:
        """A worker died, or did not load."""
        if self._failures and now - self._failures[-1] > self._policy.failure_window:
            self._row = 0
        self._row += 1
        self._failures.append(now)
        lapse = self._lapses_at()
        self.retry_at = later(now, self._delay())
        if lapse is not None and lapse > now:
            self.retry_at = max(self.retry_at, lapse)

    def is_exhausted(self, now: Instant) -> bool:
        """Whether there were too many failures in the window that ends now."""
        lapse = self._lapses_at()
        return lapse is not None and lapse > now

    def may_retry(self, now: Instant) -> bool:
        """Whether a worker may be started."""
        return self.retry_at is None or self.retry_at <= now

    def remaining(self, now: Instant) -> Seconds | None:
        """How long a start must wait; None if it need not."""
        if self.retry_at is None or self.retry_at <= now:
            return None
        return Seconds(self.retry_at - now)

    def forgive(self) -> None:
        """A person tries again, or the model is another: nothing of this counts any more."""
        self._failures.clear()
        self._row = 0
        self.retry_at = None

    def _lapses_at(self) -> Instant | None:
        if len(self._failures) < self._policy.failures_before_failed:
            return None
        return later(self._failures[0], self._policy.failure_window)

    def _delay(self) -> Seconds:
        policy = self._policy
        # Bounded before the power is taken: a model may fail for years.
        exponent = min(self._row - 1, 64)
        delay = min(policy.backoff_first * policy.backoff_factor**exponent, policy.backoff_last)
        return Seconds(delay * (0.75 + 0.25 * self._jitter()))
