"""Has the engine go through loads without allocating, each in a worker that ends with it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from unified_llm.domain.devices import RAM
from unified_llm.domain.errors import QueueFull
from unified_llm.domain.measurements import DryRun
from unified_llm.domain.models import ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.fleet.model_worker import ModelWorker

# Each is a process that reads a header: of a model with a large vocabulary, for a second or two.
MOST_WAITING: Final = 4


class DryRuns:
    """One at a time. open_worker: as Fleet has it."""

    def __init__(
        self, open_worker: Callable[[ModelSpec], AbstractAsyncContextManager[ModelWorker]]
    ) -> None:
        self._open_worker = open_worker
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    async def rehearse(self, spec: ModelSpec, placement: Placement) -> DryRun:
        """What loading `spec` like this would take besides weights.

        Raises QueueFull, ModelFailedToLoad, GpuUnusable.
        """
        if self._waiting >= MOST_WAITING:
            raise QueueFull(
                f"{self._waiting} dry runs are waiting already.", retry_after=Seconds(2)
            )
        self._waiting += 1
        try:
            async with self._one_at_a_time, self._open_worker(spec) as worker:
                said = await worker.rehearse(placement)
        finally:
            self._waiting -= 1
        on_gpus = dict(zip(map(str, placement.gpus), said.gpu_working_bytes, strict=False))
        working = {str(RAM): said.working_bytes, **on_gpus}
        return DryRun(
            Bytes(said.cache_bytes), {device: Bytes(size) for device, size in working.items()}
        )
