"""Which requests are to end before they are whole: asked by one thread, heeded by another."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from unified_llm.worker.engine_port import Pulse


class Interrupts:
    """Without a lock: adding an element to a set and discarding it are atomic."""

    def __init__(self) -> None:
        self._asked: set[int] = set()
        self._in_step: frozenset[int] = frozenset()
        self._is_hurried = False

    def ask(self, request_id: int) -> bool:
        """Have a request end. Whether it is in the step of this moment, which should end too.

        From any thread. A step does it in the other order, so one of the two sees what the other
        has done.
        """
        self._asked.add(request_id)
        return request_id in self._in_step

    def withdraw(self, request_id: int) -> None:
        """It has ended, or there never was one."""
        self._asked.discard(request_id)

    def hurry(self) -> None:
        """Have every step end early from now on."""
        self._is_hurried = True

    def among(self, request_ids: Iterable[int]) -> list[int]:
        """Those of `request_ids` that are to end, in their order."""
        return [each for each in request_ids if each in self._asked]

    def while_looking(self, pulse: Pulse) -> Callable[[], bool]:
        """What says, with a pulse, whether to stop a look at a picture.

        It may take longer than anybody's cancel has, so it ends for those who are not in it too.
        """

        def should_stop() -> bool:
            pulse()
            return self._is_hurried or bool(self._asked)

        return should_stop

    @contextmanager
    def open_step(self, request_ids: frozenset[int], pulse: Pulse) -> Iterator[Callable[[], bool]]:
        """A step with these requests in it; yields what says, with a pulse, whether to stop it."""
        self._in_step = request_ids

        def should_stop() -> bool:
            pulse()
            return self._is_hurried or not request_ids.isdisjoint(self._asked)

        try:
            yield should_stop
        finally:
            self._in_step = frozenset()
