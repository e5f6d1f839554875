"""What the scheduler knows of each model.

Rule 1: a model has at most one worker, and `generation` is its number or the last one's.
Rule 2: `state` is written by `Residency.change` alone.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.events import ModelStatus
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Instant
from unified_llm.scheduler.backoff import Backoff
from unified_llm.scheduler.effects import Generation, LoadedModel, Ticket
from unified_llm.scheduler.pace import Pace
from unified_llm.scheduler.queue import FairQueue


class DrainReason(Enum):
    """Why a model takes no new leases. Only ROOM can be taken back, and never breaks a lease."""

    ROOM = auto()  # another model's turn has come
    ASKED = auto()  # somebody unloads it
    VANISHED = auto()  # the catalogue has lost it
    CLOSING = auto()  # the daemon stops
    PRESSURE = auto()  # other programs have taken its memory
    RESERVED = auto()  # its memory was reserved by somebody who is no model
    SUSPENDED = auto()  # the machine is going to sleep


class Replan(Enum):
    """What the next load does differently because the last one ran out of memory."""

    NONE = auto()
    ALONE = auto()  # after the idle models have left
    SMALLER = auto()  # with less of each device


@dataclass(frozen=True, slots=True)
class HeldLease:
    """Who was granted it, when, and the price in lease seconds that was reckoned with."""

    principal: str
    since: Instant
    price: float


@dataclass(slots=True)
class ModelRecord:
    """One model of the catalogue, or one that has vanished from it and still has a worker.

    spec: as in the catalogue. Its pin and keep-alive hold at once, the rest from the next load on.
    since: when `state` was entered. last_used: when the last lease ended.
    leases: tickets being served, and on what terms.
    unloads: tickets that wait for the worker to be gone.
    drain_reason, drain_until: why it is DRAINING and how long at most; None in other states.
    placement: what its worker was given; None without a worker.
    is_displaced: it left, or was loaded smaller, because other programs took memory; it comes back
        by itself when there is room again.
    cap: how much of some devices its next load may take at most.
    is_stuck: its worker was killed and is not gone; its memory is as good as lost.
    behind: the place in line of the one it made room for; it does not come before that until it has
        been loaded again.
    successor: the model it is to make room for before any other does; None if there is none.
    has_idled: nobody has asked for it since it fell idle at `last_used`.
    """

    spec: ModelSpec
    backoff: Backoff
    since: Instant
    last_used: Instant
    state: ModelState = ModelState.AVAILABLE
    generation: Generation = Generation(0)  # noqa: RUF009
    queue: FairQueue = field(default_factory=FairQueue)
    leases: dict[Ticket, HeldLease] = field(default_factory=dict)
    unloads: list[Ticket] = field(default_factory=list)
    loaded: LoadedModel | None = None
    progress: float | None = None
    last_error: tuple[str, str] | None = None
    drain_reason: DrainReason | None = None
    drain_until: Instant | None = None
    replan: Replan = Replan.NONE
    placement: Placement | None = None
    cap: dict[DeviceId, Bytes] = field(default_factory=dict)
    has_vanished: bool = False
    is_displaced: bool = False
    is_stuck: bool = False
    has_idled: bool = False
    behind: float = -inf
    successor: ModelId | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def id(self) -> ModelId:
        """The model's name."""
        return self.spec.id

    @property
    def slots(self) -> int:
        """How many leases may be out; requests beyond wait here, where fairness is decided."""
        return 1 if self.loaded is None else max(1, self.loaded.slots)

    @property
    def serves(self) -> bool:
        """Whether leases are given."""
        return self.state is ModelState.READY

    @property
    def may_grant(self) -> bool:
        """Whether the next waiter can be served now."""
        return self.serves and len(self.leases) < self.slots and bool(self.queue)

    def runs(self, generation: Generation) -> bool:
        """Whether a report about `generation` is about the worker there is now."""
        return self.state.has_worker and generation == self.generation

    def note(self, error: UnifiedLlmError) -> None:
        """Keep `error` as the last one, for the status."""
        self.last_error = (error.code, error.message)

    def status(self) -> ModelStatus:
        """The model as others may see it."""
        return ModelStatus(
            id=self.id,
            state=self.state,
            progress=self.progress,
            memory_bytes=_total(self.loaded),
            placement=self.placement,
            context_tokens=self.loaded.context_tokens if self.loaded else None,
            sandbox=self.loaded.sandbox if self.loaded else None,
            leases=len(self.leases),
            waiting=len(self.queue),
            last_error=self.last_error,
        )


def _total(loaded: LoadedModel | None) -> Bytes | None:
    return Bytes(sum(loaded.memory.values())) if loaded and loaded.memory else None
