"""How many attempts beyond the first may leave the machine: a share of the requests, not a count.

A count per request multiplies the load of a provider that is down by that count; a share can not.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class RetryBudget:
    """Filled by requests, emptied by retries.

    share: retries per request, 0 to 1. reserve: retries that may be saved up, and are there at the
    start, so that a daemon with few requests can retry at all.
    """

    share: float = 0.2
    reserve: float = 10.0
    _left: float = field(init=False)

    def __post_init__(self) -> None:
        self._left = self.reserve

    def on_request(self) -> None:
        """A request has come."""
        self._left = min(self._left + self.share, self.reserve)

    def try_take(self) -> bool:
        """Take one retry; False, and nothing taken, if there is none left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
