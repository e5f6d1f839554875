"""How fast bytes come through, from what was counted and when: measured, never guessed."""

from collections import deque
from typing import Final

from unified_llm.domain.units import Bytes, Instant, Seconds

# What a disk's cache took in at the start says little of what it writes later.
_WINDOW: Final = Seconds(10)
# Chunks of a fast disk come every few milliseconds; the clock is not asked to judge so little.
_SPACING: Final = Seconds(0.5)


class Transfer:
    """`done` of `total` bytes. rate: bytes per second of late; None until it has been measured."""

    def __init__(self, total: Bytes, done: Bytes, now: Instant) -> None:
        self.total = total
        self.done = done
        self.rate: float | None = None
        self._marks = deque([(now, done)])

    @property
    def share(self) -> float | None:
        """0 to 1; None if there is nothing to count."""
        return self.done / self.total if self.total else None

    @property
    def remaining(self) -> Seconds | None:
        """How long the rest takes at the present rate; None if that is not known, or is none."""
        return Seconds((self.total - self.done) / self.rate) if self.rate else None

    def see(self, done: Bytes, now: Instant) -> None:
        """Count that far."""
        self.done = done
        if now - self._marks[-1][0] < _SPACING:
            return
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW:
            self._marks.popleft()
        since, before = self._marks[0]
        self.rate = (done - before) / (now - since)
