"""Who waits for one model, and whose turn it is."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.units import Instant, Seconds
from unified_llm.scheduler.effects import Ticket

MOST_AHEAD: Final = Seconds(60)
"""So much more may have been given to a principal than to another who waits meanwhile."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request in the queue.

    since: when it came. needs_slot: False if it waits only until the model serves.
    """

    ticket: Ticket
    principal: str
    since: Instant
    needs_slot: bool = True


class FairQueue:
    """Fair among principals by what they were given, first come first served within one.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996): the next is who was given least, and one
    who was away starts level with the others. A price is paid with each turn, and corrected when it
    is known what it really took; so of two with equal prices each has every second turn.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[str, OrderedDict[Ticket, Waiter]] = OrderedDict()
        self._waiters: dict[Ticket, Waiter] = {}
        self._given: dict[str, float] = {}
        self._level = 0.0

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(tuple(self._waiters.values()))

    def add(self, waiter: Waiter) -> None:
        """Let `waiter` stand behind the others of its principal."""
        self._waiters[waiter.ticket] = waiter
        if waiter.principal not in self._of:
            self._of[waiter.principal] = OrderedDict()
            given = self._given.get(waiter.principal, 0.0)
            self._given[waiter.principal] = max(given, self._level)
        self._of[waiter.principal][waiter.ticket] = waiter

    def take(self, price: float) -> Waiter:
        """The next to be served, at that price. KeyError if none waits."""
        if not self._of:
            raise KeyError("nobody waits")
        principal = min(self._of, key=self._given.__getitem__)
        self._level = self._given[principal]
        self._given[principal] += price
        self._of.move_to_end(principal)
        return self.remove(next(iter(self._of[principal])))

    def correct(self, principal: str, difference: float) -> None:
        """What was given has cost so much more than the price that was paid.

        One long answer does not shut its principal out: it is held against it up to a limit.
        """
        if principal in self._given:
            most = max(self._given[principal], self._level + MOST_AHEAD)
            self._given[principal] = min(self._given[principal] + difference, most)
        # Who is not ahead of the others starts level with them anyway.
        if len(self._given) > 2 * len(self._of) + 64:
            self._given = {
                each: given
                for each, given in self._given.items()
                if each in self._of or given > self._level
            }

    def remove(self, ticket: Ticket) -> Waiter:
        """Take out one that need not wait any more. KeyError if it does not wait."""
        waiter = self._waiters.pop(ticket)
        own = self._of[waiter.principal]
        del own[ticket]
        if not own:
            del self._of[waiter.principal]
        return waiter

    def displaced_by(self, principal: str) -> Waiter | None:
        """Who must go when the queue is full and `principal` asks; None if that is `principal`.

        The newest waiter of the principal with most, so that one person can not take all places.
        """
        crowd = max(self._of.values(), key=len, default=None)
        if crowd is None or len(crowd) <= len(self._of.get(principal, ())) + 1:
            return None
        return crowd[next(reversed(crowd))]
