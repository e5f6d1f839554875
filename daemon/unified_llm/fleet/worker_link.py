"""What it takes to deal with a worker: its process, its channel, its file, and time."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from unified_llm.domain.models import ModelId
from unified_llm.domain.ports import Timers
from unified_llm.domain.profile import Purpose
from unified_llm.domain.units import Seconds, Tokens, later
from unified_llm.fleet.patience import Patience
from unified_llm.fleet.process import Ending
from unified_llm.worker.protocol import AdapterFile, FromWorker, ToWorker


class ChildProcess(Protocol):
    """As WorkerProcess."""

    @property
    def pid(self) -> int: ...
    async def exited(self) -> Ending: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class FrameChannel(Protocol):
    """As Channel."""

    async def send(self, message: ToWorker) -> None: ...
    def cancel(self, request: int) -> None: ...
    def drop_state(self, state: int) -> None: ...
    def pause(self, request: int) -> None: ...
    def resume(self, request: int) -> None: ...
    async def receive(self) -> FromWorker | None: ...


class CheckedFile(Protocol):
    """As ModelFile."""

    @property
    def paths_in_worker(self) -> tuple[str, ...]: ...
    @property
    def adapters_in_worker(self) -> tuple[AdapterFile, ...]: ...
    @property
    def projector_in_worker(self) -> str | None: ...
    def ensure_unchanged(self) -> None: ...


class StatesForWorker(Protocol):
    """As StateDoor."""

    @property
    def saves(self) -> bool: ...
    def serve(
        self,
        build: tuple[str, str],
        context_tokens: Tokens,
        cache_type: str,
        *,
        on_dropped: Callable[[int], None],
        on_violation: Callable[[], None],
    ) -> None: ...
    def admit(self, principal: str) -> None: ...
    def distrust(self) -> None: ...


class NoStates:
    """For a worker whose conversations are not kept."""

    saves = False

    def serve(
        self,
        build: tuple[str, str],
        context_tokens: Tokens,
        cache_type: str,
        *,
        on_dropped: Callable[[int], None],
        on_violation: Callable[[], None],
    ) -> None:
        """There is nothing to serve."""

    def admit(self, principal: str) -> None:
        """There is nothing to give."""

    def distrust(self) -> None:
        """There is nothing to drop."""


@dataclass(frozen=True, slots=True)
class WorkerLink:
    """A worker that has been started for a model, and all that belongs to it."""

    model: ModelId
    process: ChildProcess
    channel: FrameChannel
    file: CheckedFile
    timers: Timers
    patience: Patience
    states: StatesForWorker
    purpose: Purpose = Purpose.CHAT

    async def exited_within(self, limit: Seconds) -> bool:
        """Wait for the end of the process; whether it came in time."""
        with suppress(TimeoutError):
            async with self.timers.timeout_at(later(self.timers.now(), limit)):
                await self.process.exited()
                return True
        return False

    async def ended(self) -> Ending:
        """How it ended, once its channel has; a process that outlives its channel is killed."""
        if not await self.exited_within(self.patience.exit):
            self.process.kill()
        return await self.process.exited()
