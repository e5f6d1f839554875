"""Facts from below, handed on to whoever looks: jobs, D-Bus signals."""

import logging
from collections.abc import Callable

from unified_llm.domain.events import Event
from unified_llm.domain.ports import Unsubscribe

_log = logging.getLogger(__name__)


class Watch:
    """An EventSink that passes each fact to all who subscribed, in order of subscription."""

    def __init__(self) -> None:
        self._watchers: dict[int, Callable[[Event], None]] = {}
        self._next = 0

    def __call__(self, event: Event) -> None:
        for watcher in tuple(self._watchers.values()):
            try:
                watcher(event)
            except Exception:  # noqa: BLE001  one bad watcher must not stop the scheduler's turn
                _log.exception("a watcher failed at %s", type(event).__name__)

    def subscribe(self, watcher: Callable[[Event], None]) -> Unsubscribe:
        """Have `watcher` called with every fact from now on; it returns at once."""
        key, self._next = self._next, self._next + 1
        self._watchers[key] = watcher

        def unsubscribe() -> None:
            self._watchers.pop(key, None)

        return unsubscribe
