"""The scheduler's seams: what it can make happen, and what is reported back to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType, Protocol

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.events import ModelMoved, ModelStatus
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Instant, Seconds, Tokens

Ticket = NewType("Ticket", int)
"""A request's place in the scheduler; never used twice."""

Generation = NewType("Generation", int)
"""Which worker of a model: one more with every load, so reports of past workers are told apart."""


class Effects(Protocol):
    """Everything the scheduler's core can make happen. Each call returns at once."""

    def begin_load(self, spec: ModelSpec, generation: Generation, placement: Placement) -> None:
        """Start a worker; `load_finished` or `worker_died` reports its fate."""

    def begin_stop(self, model: ModelId, generation: Generation, *, grace: Seconds) -> None:
        """Ask the worker to go, and kill it after `grace`; `stop_finished` reports it gone."""

    def grant(self, ticket: Ticket, model: ModelId, generation: Generation) -> bool:
        """Hand out a lease, or tell that a load or unload is done. False if the caller has gone."""

    def refuse(self, ticket: Ticket, error: UnifiedLlmError) -> None:
        """End the wait of a caller."""

    def reservation_met(self, ticket: Ticket) -> None:
        """What was reserved under `ticket` is held by no worker any more; told once."""

    def wake_at(self, moment: Instant | None) -> None:
        """Call `woke` at `moment`, instead of at any moment asked for before; None for never."""

    def announce(self, status: ModelStatus) -> None:
        """A model's status has changed to this."""

    def tell_move(self, moved: ModelMoved) -> None:
        """A model is made to leave, or brought back, although no caller has asked for it."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What a worker reports when its model serves.

    memory: what it took of each device; empty if it does not say. sandbox: layers the worker is
    confined by.
    """

    context_tokens: Tokens
    slots: int
    memory: Mapping[DeviceId, Bytes] = field(default_factory=dict)
    sandbox: tuple[str, ...] = ()


LoadOutcome = LoadedModel | UnifiedLlmError


class Workers(Protocol):
    """What the scheduler's loop needs of the fleet. Each call returns at once."""

    def begin_load(self, spec: ModelSpec, generation: Generation, placement: Placement) -> None:
        """As in Effects."""

    def begin_stop(self, model: ModelId, generation: Generation, *, grace: Seconds) -> None:
        """As in Effects. A generation that is not running any more is reported stopped at once."""


class Reports(Protocol):
    """What the fleet reports to the scheduler's loop. Each call returns at once.

    For a generation there comes: any load_progressed, then one load_finished; then, however the
    worker ends, exactly one stop_finished (asked to) or worker_died (not asked to), after its
    process has been reaped; then one memory_returned. A load that fails is load_finished with an
    error followed by stop_finished.
    """

    def load_progressed(self, model: ModelId, generation: Generation, fraction: float) -> None: ...

    def load_finished(
        self, model: ModelId, generation: Generation, outcome: LoadOutcome
    ) -> None: ...

    def worker_died(
        self, model: ModelId, generation: Generation, error: UnifiedLlmError
    ) -> None: ...

    def stop_finished(self, model: ModelId, generation: Generation) -> None: ...

    def memory_returned(self, model: ModelId, generation: Generation) -> None:
        """No main memory is held for this worker any more; that of GPUs, a reading shows."""
