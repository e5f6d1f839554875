"""How the daemon is, in words that are true."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from unified_llm.domain.callers import Caller
from unified_llm.domain.devices import DeviceId, DeviceMemory, MemoryReading
from unified_llm.domain.events import Surroundings
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.ports import Clock
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Gate
from unified_llm.routing.health import Health as ProviderHealth
from unified_llm.routing.health import Standing
from unified_llm.scheduler.loop import SchedulerLoop


class ServiceState(StrEnum):
    """Where the daemon is.

    `degraded` serves, but something configured does not. `suspending` takes requests, which wait:
    no model is loaded before the machine has slept.
    """

    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    SUSPENDING = "suspending"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Health:
    """Liveness is that this was answered at all; `ready` is that requests are taken.

    degraded: one sentence for each thing that does not work as configured.
    """

    state: ServiceState
    ready: bool
    degraded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What a person wants to see at a glance.

    uptime: since the doors opened. memory_budget, memory_committed: main memory the models may
    take, and what those loaded and loading were given. sandboxes: of each loaded model, the layers
    its worker is confined by. devices: as just read; one whose driver does not answer is missing.
    held: what models were given of each. foreign: what other programs hold of each, where known.
    providers: whether each is asked at present.
    """

    version: str
    health: Health
    uptime: Seconds
    models: dict[ModelState, int]
    leases: int
    waiting: int
    memory_budget: Bytes
    memory_committed: Bytes
    sandboxes: dict[ModelId, tuple[str, ...]]
    devices: tuple[DeviceMemory, ...]
    held: dict[DeviceId, Bytes]
    foreign: dict[DeviceId, Bytes]
    providers: tuple[Standing, ...]
    surroundings: Surroundings


class Status:
    """Answers how things are. The app opens and closes the doors and says so here."""

    def __init__(
        self,
        gate: Gate,
        scheduler: SchedulerLoop,
        clock: Clock,
        *,
        version: str,
        complaints: Callable[[], Sequence[str]],
        read_memory: Callable[[], Awaitable[MemoryReading]],
        providers: ProviderHealth,
        surroundings: Callable[[], Surroundings],
        is_suspending: Callable[[], bool],
    ) -> None:
        self._gate = gate
        self._scheduler = scheduler
        self._clock = clock
        self._version = version
        self._complaints = complaints
        self._read_memory = read_memory
        self._providers = providers
        self._surroundings = surroundings
        self._is_suspending = is_suspending
        self._phase = ServiceState.STARTING
        self._opened = clock.now()

    @property
    def surroundings(self) -> Surroundings:
        """What the machine is like; needs no right."""
        return self._surroundings()

    def doors_opened(self) -> None:
        """Every door answers from now on."""
        self._phase, self._opened = ServiceState.RUNNING, self._clock.now()

    def draining_began(self) -> None:
        """Nothing new is taken from now on."""
        self._phase = ServiceState.DRAINING

    def health(self) -> Health:
        """Needs no right: whoever reaches a door may know."""
        degraded = (*self._complaints(), *self._failed_models())
        state, is_open = self._phase, self._phase is ServiceState.RUNNING
        if is_open and self._is_suspending():
            state = ServiceState.SUSPENDING
        elif is_open and degraded:
            state = ServiceState.DEGRADED
        return Health(state, is_open, degraded)

    async def report(self, caller: Caller) -> StatusReport:
        """The whole picture."""
        with self._gate.open_entry(caller, Action.READ, "status"):
            reading = await self._read_memory()
            statuses = self._scheduler.statuses()
            counts = dict.fromkeys(ModelState, 0)
            for status in statuses:
                counts[status.state] += 1
            return StatusReport(
                version=self._version,
                health=self.health(),
                uptime=Seconds(self._clock.now() - self._opened),
                models={state: count for state, count in counts.items() if count},
                leases=sum(status.leases for status in statuses),
                waiting=sum(status.waiting for status in statuses),
                memory_budget=self._scheduler.memory_budget,
                memory_committed=self._scheduler.memory_committed,
                sandboxes={
                    status.id: status.sandbox for status in statuses if status.sandbox is not None
                },
                devices=reading.devices,
                held=self._scheduler.memory_held(),
                foreign=self._scheduler.memory_foreign(),
                providers=self._providers.standings(self._clock.now()),
                surroundings=self._surroundings(),
            )

    def render_line(self) -> str:
        """One line for `systemctl status`."""
        health = self.health()
        statuses = self._scheduler.statuses()
        ready = [status.id for status in statuses if status.state is ModelState.READY]
        loaded = f"loaded: {', '.join(ready)}" if ready else "nothing loaded"
        trouble = (
            f"; {len(health.degraded)} complaints: {health.degraded[0]}" if health.degraded else ""
        )
        return f"{health.state.value}; {len(statuses)} models, {loaded}{trouble}"

    def _failed_models(self) -> list[str]:
        return [
            f"model {status.id} failed: {status.last_error[1] if status.last_error else 'unknown'}"
            for status in self._scheduler.statuses()
            if status.state is ModelState.FAILED
        ]
