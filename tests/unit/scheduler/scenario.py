"""A scheduler with recorded effects and a clock moved by hand."""

from pathlib import PurePath

from tests.fakes.effects import FakeEffects
from tests.fakes.profiles import sized_profile
from unified_llm.domain.errors import UnifiedLlmError, WorkerDied
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import DEFAULT_PRIORITY, FileIdentity, GpuUse, ModelId, ModelSpec
from unified_llm.domain.units import Bytes, Instant, Seconds, Tokens
from unified_llm.planner.run_shape import RunShape
from unified_llm.scheduler.core import Scheduler
from unified_llm.scheduler.effects import Generation, LoadedModel, LoadOutcome, Ticket
from unified_llm.scheduler.policy import SchedulingPolicy

GIB = 1024**3
CAT, DOG, OWL = ModelId("cat"), ModelId("dog"), ModelId("owl")
ANNA, BERT = "uid:1000", "uid:1001"
IDENTITY = FileIdentity(1, 2, Bytes(3), 4)
CRASH = WorkerDied("The worker ended by signal 11.")


def make_spec(
    model: ModelId,
    gib: int = 4,
    *,
    slots: int = 1,
    keep_alive: float | None = None,
    pinned: bool = False,
    identity: FileIdentity | None = IDENTITY,
    defect: str | None = None,
    cached_gib: int = 0,
    gpu: GpuUse = GpuUse.AUTO,
    priority: int = DEFAULT_PRIORITY,
) -> ModelSpec:
    """A model as the catalogue has it."""
    return ModelSpec(
        id=model,
        path=PurePath(f"/models/{model}.gguf"),
        identity=identity,
        defect=defect,
        size_bytes=Bytes(gib * GIB // 2),
        architecture="llama",
        context_tokens=Tokens(4096),
        slots=slots,
        threads=None,
        keep_alive=None if keep_alive is None else Seconds(keep_alive),
        pinned=pinned,
        source="settings",
        profile=sized_profile(gib * GIB, RunShape(Tokens(4096), slots), cached=cached_gib * GIB),
        gpu=gpu,
        priority=priority,
    )


class Scenario:
    """Events in, effects out; by default 8 GiB, so that two models of 4 GiB fit."""

    def __init__(self, *specs: ModelSpec, policy: SchedulingPolicy | None = None) -> None:
        self.policy = policy or SchedulingPolicy(ram_budget=Bytes(8 * GIB))
        self.effects = FakeEffects()
        self.core = Scheduler(self.policy, self.effects, jitter=lambda: 1.0)
        self.now = Instant(0.0)
        self._last_ticket = 0
        self.core.catalogue({spec.id: spec for spec in specs}, self.now)

    def wait(self, seconds: float) -> None:
        """Move the clock, waking the core at each moment it asks for."""
        end = self.now + seconds
        while self.effects.wake is not None and self.effects.wake <= end:
            self.now, self.effects.wake = max(self.now, self.effects.wake), None
            self.core.woke(self.now)
        self.now = Instant(end)

    def ask(
        self, model: ModelId, principal: str = ANNA, *, patience: float = 600, by_hand: bool = False
    ) -> Ticket:
        """A request."""
        ticket = self._ticket()
        give_up_at = Instant(self.now + patience)
        self.core.requested(ticket, model, principal, give_up_at, self.now, by_hand=by_hand)
        return ticket

    def unload(self, model: ModelId, *, patience: float = 600) -> Ticket:
        """Somebody unloads the model."""
        ticket = self._ticket()
        self.core.unload_asked(ticket, model, ANNA, Instant(self.now + patience), self.now)
        return ticket

    def give_back(self, *tickets: Ticket) -> None:
        """Leases end."""
        for ticket in tickets:
            self.core.lease_returned(ticket, self.now)

    def finish_load(self, model: ModelId, outcome: LoadOutcome | None = None) -> None:
        """The model's newest worker serves, or says why not."""
        load = next(load for load in reversed(self.effects.loads) if load.model == model)
        loaded = LoadedModel(load.placement.context_tokens, load.placement.slots)
        self.core.load_finished(model, load.generation, outcome or loaded, self.now)

    def finish_stop(self, model: ModelId, *, returned: bool = True) -> None:
        """The model's newest worker is gone, and its memory free."""
        self.core.stop_finished(model, self.generation(model), self.now)
        if returned:
            self.core.memory_returned(model, self.generation(model), self.now)

    def die(self, model: ModelId, error: UnifiedLlmError = CRASH) -> None:
        """The model's newest worker dies, and its memory is free."""
        self.core.worker_died(model, self.generation(model), error, self.now)
        self.core.memory_returned(model, self.generation(model), self.now)

    def serve(self, model: ModelId, principal: str = ANNA) -> Ticket:
        """A request that is served, the model having been loaded for it."""
        ticket = self.ask(model, principal)
        if self.state(model) is ModelState.LOADING:
            self.finish_load(model)
        assert ticket in self.effects.granted
        return ticket

    def keep_idle(self, model: ModelId) -> None:
        """Have the model loaded and idle."""
        self.give_back(self.serve(model))

    def generation(self, model: ModelId) -> Generation:
        """The number of the model's newest worker."""
        return next(load for load in reversed(self.effects.loads) if load.model == model).generation

    def state(self, model: ModelId) -> ModelState:
        """Where the model is."""
        return self.core.status(model).state

    def is_closed(self) -> bool:
        """Whether the core is; a call, so that type checkers expect it to change."""
        return self.core.is_closed

    @property
    def loading(self) -> list[ModelId]:
        """Every load begun so far."""
        return [load.model for load in self.effects.loads]

    @property
    def stopping(self) -> list[ModelId]:
        """Every stop begun so far."""
        return [stop.model for stop in self.effects.stops]

    def _ticket(self) -> Ticket:
        self._last_ticket += 1
        return Ticket(self._last_ticket)
