"""Who is next, where each user's things are done in their order and users take turns."""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

User = TypeVar("User", bound=Hashable)
Thing = TypeVar("Thing")


class Turns(Generic[User, Thing]):
    """What waits, by user: between two things of one user, every other user that waits has one."""

    def __init__(self) -> None:
        self._waiting: dict[User, deque[Thing]] = {}
        self._order: deque[User] = deque()

    def __bool__(self) -> bool:
        return bool(self._order)

    def add(self, user: User, thing: Thing) -> None:
        """Let it wait behind what its user has waiting."""
        if user not in self._waiting:
            self._waiting[user] = deque()
            self._order.append(user)
        self._waiting[user].append(thing)

    def take(self) -> tuple[User, Thing]:
        """Who has waited longest for a turn, and their oldest thing. Raises IndexError."""
        user = self._order.popleft()
        waiting = self._waiting[user]
        thing = waiting.popleft()
        if waiting:
            self._order.append(user)
        else:
            del self._waiting[user]
        return user, thing
