"""Writes down what was used, a moment after it was, so that no answer waits for the disk."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from unified_llm.domain.errors import UnavailableError
from unified_llm.domain.models import ModelId
from unified_llm.domain.usage import UsageLine
from unified_llm.registry.store import Store
from unified_llm.registry.usage import record_usage, usage_since

_log = logging.getLogger(__name__)

_Key = tuple[str, str, str, ModelId]


class Ledger:
    """Lines on their way to the store, and those that are there."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[_Key, UsageLine] = {}
        self._has_lines = asyncio.Event()
        self._is_closing = False

    def add(self, line: UsageLine) -> None:
        """Have `line` written; returns at once."""
        known = self._waiting.get(line.key)
        self._waiting[line.key] = line if known is None else known.plus(line)
        self._has_lines.set()

    async def since(self, day: str, principal: str | None = None) -> tuple[UsageLine, ...]:
        """All that was used on `day` and later; principal: by this one only.

        Raises StoreUnavailable, DiskFull.
        """
        await self._flush()
        return await self._store.read(lambda database: usage_since(database, day, principal))

    async def run(self) -> None:
        """Write what comes, until `close`."""
        is_last = False
        while not is_last:
            await self._has_lines.wait()
            is_last = self._is_closing  # before saving: what comes meanwhile is saved once more
            await self.save()

    def close(self) -> None:
        """Have `run` write what is waiting and end: cancelled, it might lose what it holds."""
        self._is_closing = True
        self._has_lines.set()

    async def save(self) -> None:
        """Write what is waiting; what can not be written waits for the next time."""
        try:
            await self._flush()
        except UnavailableError as error:
            _log.warning("what was used is not written down yet: %s", error)

    async def _flush(self) -> None:
        self._has_lines.clear()
        lines, self._waiting = self._waiting, {}
        if not lines:
            return
        try:
            await self._store.write(lambda database: record_usage(database, lines.values()))
        except UnavailableError:
            for line in lines.values():
                known = self._waiting.get(line.key)
                self._waiting[line.key] = line if known is None else line.plus(known)
            raise


@asynccontextmanager
async def open_ledger(store: Store) -> AsyncIterator[Ledger]:
    """A ledger that writes beside the body; leaving writes the rest."""
    ledger = Ledger(store)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(ledger.run())
        try:
            yield ledger
        finally:
            ledger.close()
            await writing
