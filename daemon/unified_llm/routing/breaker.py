"""When something that fails is left alone, and when it is tried again: a pure state machine.

Closed: it is asked. It opens after `failures` in a row, or when half of the last 20 failed, or at
once when whoever failed has said how long to stay away.
Open: it is not asked until a moment. That moment is what was told; else it doubles with every
opening that no success came between, with some of it drawn, so that daemons do not return together.
Half-open: that moment has come. One request tries; what comes of it closes or opens again.

Rule 1: a pause is never longer than what was told, by whoever told last.
Rule 2: what fails while it is open (asked before, answered now) changes nothing unless it tells.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from unified_llm.domain.units import Instant, Seconds, later

WINDOW: Final = 20


class BreakerState(StrEnum):
    """Whether it is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """failures: in a row. pause, longest: the first pause, and the longest that is not told."""

    failures: int = 5
    pause: Seconds = Seconds(30)
    longest: Seconds = Seconds(300)


@dataclass(slots=True)
class Breaker:
    """One reason to leave something alone."""

    policy: BreakerPolicy
    _until: Instant | None = None
    _openings: int = 0
    _in_a_row: int = 0
    _is_trying: bool = False
    _latest: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def state(self, now: Instant) -> BreakerState:
        """Where it is."""
        if self._until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._until else BreakerState.HALF_OPEN

    def may_ask(self, now: Instant) -> bool:
        """Whether one more request may be made; in half-open, only one at a time."""
        state = self.state(now)
        return state is BreakerState.CLOSED or (
            state is BreakerState.HALF_OPEN and not self._is_trying
        )

    def free_at(self, now: Instant) -> Instant:
        """When it may be asked, as far as that is known."""
        return now if self._until is None else max(now, self._until)

    def on_asked(self, now: Instant) -> bool:
        """A request is made. Whether it is the one that tries."""
        if self.state(now) is BreakerState.HALF_OPEN:
            self._is_trying = True
            return True
        return False

    def on_given_up(self) -> None:
        """The one that tried has ended without telling anything."""
        self._is_trying = False

    def on_success(self, now: Instant) -> None:
        """It has answered."""
        self._in_a_row = 0
        self._latest.append(True)
        if self.state(now) is BreakerState.HALF_OPEN:
            self._until, self._openings, self._is_trying = None, 0, False
            self._latest.clear()

    def on_failure(self, now: Instant, told: Seconds | None, draw: float) -> None:
        """It has failed. told: how long to stay away, if that was said. draw: 0 to 1."""
        state = self.state(now)
        self._in_a_row += 1
        self._latest.append(False)
        if told is not None:
            self._open(later(now, told))
        elif state is BreakerState.HALF_OPEN or (
            state is BreakerState.CLOSED and self._is_too_much()
        ):
            self._open(later(now, self._pause(draw)))

    def _is_too_much(self) -> bool:
        if self._in_a_row >= self.policy.failures:
            return True
        return len(self._latest) == WINDOW and self._latest.count(False) * 2 >= WINDOW

    def _open(self, until: Instant) -> None:
        self._until = until
        self._openings += 1
        self._is_trying = False
        self._latest.clear()

    def _pause(self, draw: float) -> Seconds:
        whole = min(self.policy.pause * 2.0 ** min(self._openings, 20), self.policy.longest)
        return Seconds(whole / 2 + whole / 2 * draw)
