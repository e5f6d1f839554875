"""Writes down what each load really took, once the digest of its file is known."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import PurePath
from typing import Final, Protocol

from unified_llm.domain.errors import UnavailableError
from unified_llm.domain.measurements import MeasuredRun, Measurement
from unified_llm.domain.models import FileIdentity, ModelSpec
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.fleet.loading import Serving
from unified_llm.planner.run_shape import RunShape, makes_vectors
from unified_llm.registry.measurements import record_measurement
from unified_llm.registry.store import Store

_log = logging.getLogger(__name__)

# Models that were loaded while the digest of another one was computed; the oldest is given up.
MAX_WAITING: Final = 64


async def _nobody_is_told() -> None:
    """Until somebody wants to know."""


class FindsDigests(Protocol):
    """What tells the digest of a file; registry.digests.Digests does."""

    async def digest_of(self, path: PurePath, identity: FileIdentity) -> str | None: ...


class Learning:
    """Takes finished loads at once, and deals with them one after the other in `run`.

    on_learned: told after each that was written down.
    """

    def __init__(
        self, store: Store, digests: FindsDigests, *, unix_time: Callable[[], float]
    ) -> None:
        self._store = store
        self._digests = digests
        self._unix_time = unix_time
        self._waiting: deque[tuple[ModelSpec, Serving, Seconds]] = deque(maxlen=MAX_WAITING)
        self._came = asyncio.Event()
        self._is_busy = False
        self.on_learned: Callable[[], Awaitable[None]] = _nobody_is_told

    def on_loaded(self, spec: ModelSpec, serving: Serving) -> None:
        """A model serves."""
        self._waiting.append((spec, serving, Seconds(self._unix_time())))
        self._came.set()

    @property
    def is_idle(self) -> bool:
        """Whether everything it was told has been dealt with."""
        return not self._waiting and not self._is_busy

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._came.wait()
            self._came.clear()
            while self._waiting:
                self._is_busy = True
                await self._learn(*self._waiting.popleft())
                self._is_busy = False

    async def _learn(self, spec: ModelSpec, serving: Serving, now: Seconds) -> None:
        placement, loaded = serving.placement, serving.loaded
        if not serving.memory or spec.identity is None:
            return
        try:
            digest = await self._digests.digest_of(spec.path, spec.identity)
            if digest is None:
                return
            is_whole = spec.profile is not None and makes_vectors(spec.profile)
            shape = RunShape(Tokens(loaded.context_tokens), loaded.slots, is_whole=is_whole)
            run = MeasuredRun(
                digest=digest,
                context_tokens=shape.context_tokens,
                slots=shape.slots,
                cache_type=placement.cache_type,
                step_tokens=shape.step_tokens,
                gpu_layers=placement.gpu_layers,
                build=serving.build,
                cpu_experts=placement.cpu_experts,
                gpus=tuple(map(str, placement.gpus)),
                beside_bytes=spec.beside_bytes,
            )
            measured = Measurement(
                {str(device): size for device, size in serving.memory.items()}, now
            )
            await self._store.write(lambda database: record_measurement(database, run, measured))
            await self.on_learned()
        except (OSError, UnavailableError) as error:
            _log.warning("what %s took is not kept: %s", spec.id, error)
