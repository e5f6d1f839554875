"""Who waits for one model, and whose turn it is."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from unified_llm.domain.units import Instant
from unified_llm.scheduler.effects import Ticket


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
    """Round robin among principals, first come first served within one.

    A principal with a hundred requests and one with a single one are served alternately.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[str, OrderedDict[Ticket, Waiter]] = OrderedDict()
        self._waiters: dict[Ticket, Waiter] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(tuple(self._waiters.values()))

    def add(self, waiter: Waiter) -> None:
        """Let `waiter` stand behind the others of its principal."""
        self._waiters[waiter.ticket] = waiter
        self._of.setdefault(waiter.principal, OrderedDict())[waiter.ticket] = waiter

    def take(self) -> Waiter:
        """The next to be served; its principal goes behind all others. KeyError if none waits."""
        principal, own = next(iter(self._of.items()), (None, None))
        if principal is None or own is None:
            raise KeyError("nobody waits")
        ticket = next(iter(own))
        self._of.move_to_end(principal)
        return self.remove(ticket)

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
