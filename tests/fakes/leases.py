"""Leases that are granted at once, and counted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.ports import Lease
from unified_llm.domain.units import Seconds


class FakeLeases:
    """Implements domain.ports.Leases. `refusal` is raised instead of granting; `on_grant` is
    called as each wait ends."""

    def __init__(self, generation: int = 1) -> None:
        self.generation = generation
        self.refusal: UnifiedLlmError | None = None
        self.on_grant: Callable[[], None] = lambda: None
        self.granted = 0
        self.out = 0

    @asynccontextmanager
    async def lease(
        self, model: ModelId, principal: str, *, timeout: Seconds
    ) -> AsyncIterator[Lease]:
        if self.refusal is not None:
            raise self.refusal
        # As often as it is asked, others get on.
        await asyncio.sleep(0)
        self.on_grant()
        self.granted += 1
        self.out += 1
        try:
            yield Lease(model, self.generation)
        finally:
            self.out -= 1
