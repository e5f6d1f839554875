"""Reports of the fleet, written down in the order they came."""

import asyncio
from collections.abc import Callable

from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.scheduler.effects import Generation, LoadOutcome

Report = tuple[str, ModelId, Generation, object]


class FakeReports:
    """Implements scheduler.effects.Reports."""

    def __init__(self) -> None:
        self.all: list[Report] = []
        self._arrived = asyncio.Event()

    def load_progressed(self, model: ModelId, generation: Generation, fraction: float) -> None:
        self._note("load_progressed", model, generation, fraction)

    def load_finished(self, model: ModelId, generation: Generation, outcome: LoadOutcome) -> None:
        self._note("load_finished", model, generation, outcome)

    def worker_died(self, model: ModelId, generation: Generation, error: UnifiedLlmError) -> None:
        self._note("worker_died", model, generation, error)

    def stop_finished(self, model: ModelId, generation: Generation) -> None:
        self._note("stop_finished", model, generation, None)

    def memory_returned(self, model: ModelId, generation: Generation) -> None:
        self._note("memory_returned", model, generation, None)

    def _note(self, what: str, model: ModelId, generation: Generation, value: object) -> None:
        self.all.append((what, model, generation, value))
        self._arrived.set()

    def of(self, generation: int) -> list[str]:
        """What was reported of one generation, progress left out."""
        return [
            what
            for what, _, its_generation, _ in self.all
            if its_generation == generation and what != "load_progressed"
        ]

    def value(self, what: str, generation: int) -> object:
        """What came with the one report of that kind."""
        (value,) = [value for name, _, its, value in self.all if name == what and its == generation]
        return value

    async def until(self, what: str, generation: int) -> None:
        """Wait for a report."""
        await self._until(lambda: what in self.of(generation))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._arrived.clear()
            await self._arrived.wait()
