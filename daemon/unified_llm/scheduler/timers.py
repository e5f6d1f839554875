"""Every deadline of the scheduler, in one heap behind one alarm."""

import heapq
from collections.abc import Callable, Hashable
from itertools import count

from unified_llm.domain.units import Instant

Action = Callable[[Instant], None]
"""What to do when the moment has come; takes the present, which may be later."""


class Timers:
    """At most one timer for each key. Ties go in the order in which they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[Instant, int, Hashable]] = []
        self._live: dict[Hashable, tuple[int, Action]] = {}
        self._order = count()

    def __len__(self) -> int:
        return len(self._live)

    def set(self, key: Hashable, moment: Instant, action: Action) -> None:
        """Do `action` at `moment`, instead of what was set for `key` before."""
        number = next(self._order)
        self._live[key] = (number, action)
        heapq.heappush(self._heap, (moment, number, key))
        # Dead entries are dropped when they surface; a queue that is joined and left all day far
        # before its deadline would never let them surface.
        if len(self._heap) > 2 * len(self._live) + 64:
            self._heap = [entry for entry in self._heap if self._is_live(entry)]
            heapq.heapify(self._heap)

    def clear(self, key: Hashable) -> None:
        """Forget the timer of `key`, if there is one."""
        self._live.pop(key, None)

    def next(self) -> Instant | None:
        """When the next one is due; None if there is none."""
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self, now: Instant) -> None:
        """Do everything due by `now`, earliest first; an action may set and clear timers."""
        while (moment := self.next()) is not None and moment <= now:
            _, _, key = heapq.heappop(self._heap)
            _, action = self._live.pop(key)
            action(now)

    def _is_live(self, entry: tuple[Instant, int, Hashable]) -> bool:
        live = self._live.get(entry[2])
        return live is not None and live[0] == entry[1]
