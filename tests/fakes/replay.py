"""A machine in virtual time under the real core: loads, stops and answers take what they are given.

Nothing sleeps and nothing is random: the same requests give the same history.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import thread_time

from unified_llm.domain.devices import RAM, DeviceId, DeviceMemory, MemoryReading
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.events import ModelMoved, ModelStatus
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Instant, Seconds
from unified_llm.scheduler.core import Scheduler
from unified_llm.scheduler.effects import Generation, LoadedModel, Ticket
from unified_llm.scheduler.ledger import WorkerKey
from unified_llm.scheduler.policy import SchedulingPolicy

GIB = 1024**3
# As measured of SmolLM2 on this project's machines, and a guess of a fast disk for the rest.
STOP_SECONDS = 0.2
LOAD_FIXED_SECONDS = 0.5
LOAD_GIB_PER_SECOND = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: when, of whom, by whom, and how long its answer takes once it is granted."""

    at: float
    model: ModelId
    principal: str
    seconds: float
    patience: float = 300.0


@dataclass(slots=True)
class Heard:
    """What became of one. granted: when; None if it was refused. on_end: what follows it."""

    ask: Ask
    granted: float | None = None
    refused: UnifiedLlmError | None = None
    on_end: Callable[[], None] = lambda: None

    @property
    def waited(self) -> float:
        """Seconds until it was granted."""
        assert self.granted is not None, self.refused
        return self.granted - self.ask.at


def load_seconds(spec: ModelSpec) -> float:
    """What the load of a model takes here."""
    return LOAD_FIXED_SECONDS + spec.size_bytes / GIB / LOAD_GIB_PER_SECOND


@dataclass(slots=True)
class Replay:
    """Runs requests through a core of its own.

    gpus: their sizes; none for a machine that computes in main memory. took: seconds of CPU of
    each call of the core, so that other programs have no part in it.
    """

    policy: SchedulingPolicy
    specs: Sequence[ModelSpec]
    gpus: dict[DeviceId, Bytes] = field(default_factory=dict)
    now: Instant = Instant(0.0)
    heard: list[Heard] = field(default_factory=list)
    loads: list[ModelId] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    foreign: dict[DeviceId, Bytes] = field(default_factory=dict)
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: "count[int]" = field(default_factory=count)
    _tickets: dict[Ticket, Heard] = field(default_factory=dict)
    _workers: dict[WorkerKey, Placement] = field(default_factory=dict)
    _wake: Instant | None = None
    _unheard: int = 0
    core: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        self.core = Scheduler(self.policy, self, jitter=lambda: 0.5)
        self._call(lambda: self.core.catalogue({spec.id: spec for spec in self.specs}, self.now))
        self._read()

    def add(self, ask: Ask, on_end: Callable[[], None] = lambda: None) -> None:
        """Have a request come at its time; `on_end` is called when it has been answered or refused,
        and may add the next."""
        self._unheard += 1
        self._at(ask.at, lambda: self._request(Heard(ask, on_end=on_end)))

    def run(self, asks: Iterable[Ask] = ()) -> list[Heard]:
        """Go on until every request has been answered or refused."""
        for ask in asks:
            self.add(ask)
        while self._unheard:
            self.step()
        return self.heard

    def step(self) -> None:
        """Go to the next moment at which something happens."""
        assert self._heap or self._wake is not None, "somebody waits for nothing"
        if self._wake is not None and (not self._heap or self._wake <= self._heap[0][0]):
            self.now, self._wake = Instant(max(self.now, self._wake)), None
            self._call(lambda: self.core.woke(self.now))
            return
        moment, _, action = heapq.heappop(self._heap)
        self.now = Instant(max(self.now, moment))
        action()

    # Effects.

    def begin_load(self, spec: ModelSpec, generation: Generation, placement: Placement) -> None:
        """As in Effects."""
        self.loads.append(spec.id)
        self._workers[spec.id, generation] = placement
        loaded = LoadedModel(placement.context_tokens, placement.slots)
        self._after(
            load_seconds(spec),
            lambda: self.core.load_finished(spec.id, generation, loaded, self.now),
        )

    def begin_stop(self, model: ModelId, generation: Generation, *, grace: Seconds) -> None:
        """As in Effects."""
        self._after(STOP_SECONDS, lambda: self._end(model, generation))

    def grant(self, ticket: Ticket, model: ModelId, generation: Generation) -> bool:
        """As in Effects."""
        heard = self._tickets.pop(ticket)
        heard.granted = self.now
        self._at(self.now + heard.ask.seconds, lambda: self._answer_ends(ticket, heard))
        return True

    def refuse(self, ticket: Ticket, error: UnifiedLlmError) -> None:
        """As in Effects."""
        heard = self._tickets.pop(ticket)
        heard.refused = error
        self._unheard -= 1
        heard.on_end()

    def reservation_met(self, ticket: Ticket) -> None:
        """As in Effects."""

    def wake_at(self, moment: Instant | None) -> None:
        """As in Effects."""
        self._wake = moment

    def announce(self, status: ModelStatus) -> None:
        """As in Effects."""

    def tell_move(self, moved: ModelMoved) -> None:
        """As in Effects."""

    # What happens.

    def _request(self, heard: Heard) -> None:
        ask, ticket = heard.ask, Ticket(next(self._order))
        self.heard.append(heard)
        self._tickets[ticket] = heard
        give_up_at = Instant(self.now + ask.patience)
        self._call(
            lambda: self.core.requested(ticket, ask.model, ask.principal, give_up_at, self.now)
        )

    def _answer_ends(self, ticket: Ticket, heard: Heard) -> None:
        self._unheard -= 1
        heard.on_end()
        self._call(lambda: self.core.lease_returned(ticket, self.now))

    def _end(self, model: ModelId, generation: Generation) -> None:
        if self._workers.pop((model, generation), None) is None:
            return
        self.core.stop_finished(model, generation, self.now)
        self.core.memory_returned(model, generation, self.now)
        self._read()

    def _read(self) -> None:
        if not self.gpus:
            return
        devices = [DeviceMemory(RAM, "RAM", None, None)]
        for gpu, total in self.gpus.items():
            ours = sum(each.memory.get(gpu, 0) for each in self._workers.values())
            used = Bytes(ours + self.foreign.get(gpu, 0))
            devices.append(DeviceMemory(gpu, gpu, total, used))
        reading = MemoryReading(self.now, tuple(devices))
        self._call(lambda: self.core.memory_read(reading, {}, self.now))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._at(self.now + seconds, lambda: self._call(action))

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (moment, next(self._order), action))

    def _call(self, event: Callable[[], None]) -> None:
        begun = thread_time()
        event()
        self.took.append(thread_time() - begun)
