"""Work that can be ended from outside, and is told why."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from unified_llm.domain.errors import UnifiedLlmError


class Interruptible:
    """Bodies that run until they end or are interrupted; one reason for all of them."""

    def __init__(self) -> None:
        self._reason: UnifiedLlmError | None = None
        self._scopes: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def open_scope(self) -> AsyncIterator[None]:
        """Run the body until it ends or `interrupt` is called, and raise what that was called with.

        Called with a reason already there, the body does not run.
        """
        self._ensure_wanted()
        # A timeout without a deadline is the standard library's cancel scope: it tells its own
        # cancellation from that of others.
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.add(scope)
                yield
        except TimeoutError as error:
            if scope.expired():
                self._ensure_wanted(error)
            raise
        finally:
            self._scopes.discard(scope)

    def interrupt(self, reason: UnifiedLlmError) -> None:
        """End what runs, and what would run later, with `reason`. The first reason counts."""
        if self._reason is None:
            self._reason = reason
            now = asyncio.get_running_loop().time()
            for scope in self._scopes:
                scope.reschedule(now)

    async def checkpoint(self) -> None:
        """Where work in a scope that may never wait lets an interruption reach it."""
        if self._reason is not None and self._scopes:
            await asyncio.Event().wait()  # the scope's cancellation is on its way

    def _ensure_wanted(self, cause: Exception | None = None) -> None:
        if self._reason is not None:
            raise self._reason from cause
