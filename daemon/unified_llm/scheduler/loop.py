"""The scheduler's core in an event loop: the one writer, one timer, and leases for callers.

Rule 1: every event is applied on the loop's thread, one after the other, in the order in which they
    came; one that comes while another is applied waits for it.
Rule 2: nothing polls. With nothing to do there is no timer and no wake-up.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import count

from unified_llm.domain.arrival import Arrival
from unified_llm.domain.devices import DeviceId, MemoryReading
from unified_llm.domain.errors import GpuUnusable, Inhibited, UnifiedLlmError
from unified_llm.domain.events import ModelMoved, ModelStatus
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.ports import Clock, Lease
from unified_llm.domain.units import Bytes, Instant, Seconds, later
from unified_llm.scheduler.alarm import AlarmClock, CallLater, call_later_in_loop
from unified_llm.scheduler.backoff import Jitter
from unified_llm.scheduler.core import Scheduler
from unified_llm.scheduler.effects import Generation, LoadOutcome, Ticket, Workers
from unified_llm.scheduler.ledger import WorkerKey
from unified_llm.scheduler.policy import SchedulingPolicy

Event = Callable[[Instant], None]


def _tell_nobody(moved: ModelMoved) -> None:
    """Where nobody records what the daemon does of its own accord, as in most tests."""


async def _read_nothing() -> None:
    """Where no device is read, as in most tests."""


class SchedulerLoop:
    """Grants leases, takes the fleet's reports, and carries out what the core decides.

    It is domain.ports.Leases, effects.Reports and effects.Effects. workers: what starts and stops
    them; it is called only while an event is applied. on_status, on_moved: take a fact and return
    at once. read_memory: takes a reading of the machine's memory and hands it to `memory_read`;
    asked before the first load, while nobody else reads. last_turn: when an event was applied last.
    on_served: told when a lease ends; returns at once.
    """

    def __init__(
        self,
        policy: SchedulingPolicy,
        *,
        clock: Clock,
        workers: Workers,
        on_status: Callable[[ModelStatus], None],
        on_moved: Callable[[ModelMoved], None] = _tell_nobody,
        jitter: Jitter,
        call_later: CallLater = call_later_in_loop,
        read_memory: Callable[[], Awaitable[object]] = _read_nothing,
    ) -> None:
        self._core = Scheduler(policy, self, jitter)
        self.sacrifices = policy.sacrifices
        self._clock = clock
        self._workers = workers
        self._on_status = on_status
        self._on_moved = on_moved
        self._read_memory = read_memory
        self._tickets = count(1)
        self._waits: dict[Ticket, asyncio.Future[Generation]] = {}
        self._on_met: dict[Ticket, Callable[[], None]] = {}
        self._inbox: deque[Event] = deque()
        self._is_applying = False
        self._alarm = AlarmClock(clock, call_later)
        self._closed = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.last_turn = clock.now()
        self.on_served: Callable[[ModelId], None] = lambda model: None

    async def run(self) -> None:
        """Keep the time for the core until cancelled."""
        try:
            while True:
                await self._alarm.wait()
                self._apply(self._core.woke)
                self._alarm.answer_pings()
        finally:
            self._alarm.set(None)

    async def ping(self) -> None:
        """Return when `run` has applied an event; for the watchdog."""
        await self._alarm.ping()

    # What callers ask.

    def lease(
        self, model: ModelId, principal: str, *, timeout: Seconds
    ) -> AbstractAsyncContextManager[Lease]:
        """As in domain.ports.Leases."""
        return self._lease(model, principal, timeout)

    async def ensure_loaded(
        self, model: ModelId, principal: str, *, timeout: Seconds, by_hand: bool = True
    ) -> None:
        """Load the model unless it is, and return when it serves, however busy it is.

        by_hand: past failures do not count. Raises as `lease`.
        """
        ticket = Ticket(next(self._tickets))
        give_up_at = later(self._clock.now(), timeout)
        ask = partial(self._core.requested, ticket, model, principal, give_up_at)
        await self._outcome(ticket, partial(ask, by_hand=by_hand, needs_slot=False))

    async def unload(self, model: ModelId, principal: str, *, timeout: Seconds) -> None:
        """Return when the model's worker is gone. Raises UnknownModel, RequestTimedOut."""
        ticket = Ticket(next(self._tickets))
        give_up_at = later(self._clock.now(), timeout)
        await self._outcome(
            ticket, partial(self._core.unload_asked, ticket, model, principal, give_up_at)
        )

    async def switch(
        self, leaving: ModelId, arriving: ModelId, principal: str, *, timeout: Seconds
    ) -> None:
        """Return when `arriving` serves and the worker of `leaving` is gone.

        Beside each other where memory allows, else `leaving` makes room. No request is dropped:
        those that are served or wait for `leaving` are answered first, and who asks for it later
        has it loaded again. Raises as `lease`.
        """
        self._apply(partial(self._core.succession, leaving, arriving))
        try:
            await self.ensure_loaded(arriving, principal, timeout=timeout)
            ticket = Ticket(next(self._tickets))
            give_up_at = later(self._clock.now(), timeout)
            ask = partial(self._core.unload_asked, ticket, leaving, principal, give_up_at)
            await self._outcome(ticket, partial(ask, is_patient=True))
        finally:
            self._apply(partial(self._core.succession, leaving, None))

    def replace_catalogue(self, specs: Mapping[ModelId, ModelSpec]) -> None:
        """These are all the models from now on."""
        self._apply(partial(self._core.catalogue, dict(specs)))

    def reserve(self, size: Bytes, on_met: Callable[[], None]) -> Ticket:
        """Take `size` away from the models until `unreserve`. Raises NoRoom, Closing.

        on_met: called once, when no worker holds it any more; may be before this returns.
        """
        objection = self._core.objection_to_reserving(size)
        if objection is not None:
            raise objection
        ticket = Ticket(next(self._tickets))
        self._on_met[ticket] = on_met
        self._apply(partial(self._core.reserved, ticket, size))
        return ticket

    def unreserve(self, ticket: Ticket) -> None:
        """Give back what was reserved; harmless if it was before."""
        self._on_met.pop(ticket, None)
        self._apply(partial(self._core.unreserved, ticket))

    def inhibit(self, loads: Inhibited | None, *, evictions: bool) -> None:
        """loads: what those are told who want a load, None if they may. evictions: that no model
        leaves to make room."""
        self._apply(partial(self._core.inhibited, loads, are_evictions_inhibited=evictions))

    async def close(self, grace: Seconds) -> None:
        """Take nothing new, let leases end for `grace`, and return when no worker is left.

        `run` must still be running, for it keeps the time of the grace.
        """
        self._apply(partial(self._core.closing, grace))
        await self._closed.wait()

    def begin_suspension(self, limit: Seconds) -> frozenset[ModelId]:
        """Empty the memory within `limit`, and load nothing until `resume`. Returns what served.

        Running answers get half of the time; requests that come wait.
        """
        served: frozenset[ModelId] = frozenset()

        def begin(now: Instant) -> None:
            nonlocal served
            served = self._core.suspended(limit, now)

        self._apply(begin)
        return served

    async def emptied(self) -> None:
        """Wait until no worker is left and the memory of all has been seen free."""
        await self._empty.wait()

    def resume(self) -> None:
        """Load models again."""
        self._apply(self._core.resumed)

    def lose_gpus(self, error: GpuUnusable | None) -> None:
        """As Scheduler.gpus_lost."""
        self._apply(partial(self._core.gpus_lost, error))

    def limit_idleness(self, limit: Seconds | None) -> None:
        """As Scheduler.idleness_limited."""
        self._apply(partial(self._core.idleness_limited, limit))

    def relieve_memory(self) -> None:
        """Main memory is short: an idle model leaves, if there is one."""
        self._apply(self._core.memory_short)

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Every model, by id."""
        return self._core.statuses()

    def status(self, model: ModelId) -> ModelStatus:
        """One model. Raises UnknownModel."""
        return self._core.status(model)

    def forecast(self, model: ModelId) -> Arrival:
        """What it would take to have `model` serve, by the last reading. Raises UnknownModel."""
        self._core.status(model)
        return self._core.room.forecast(model, self._clock.now())

    @property
    def memory_budget(self) -> Bytes:
        """What all models may take together."""
        return self._core.memory_budget

    @property
    def memory_committed(self) -> Bytes:
        """What is set aside for the models loaded, loading and not yet seen gone."""
        return self._core.memory_committed

    async def memory_free(self) -> dict[DeviceId, Bytes]:
        """What a load may take of each device that may be planned with, as things are."""
        if not self._core.is_occupied:
            await self._read_memory()
        return self._core.memory_free()

    @property
    def is_occupied(self) -> bool:
        """Whether a worker lives or somebody waits for one."""
        return self._core.is_occupied

    def memory_held(self) -> dict[DeviceId, Bytes]:
        """What is set aside on each device; may be asked from any thread."""
        return self._core.memory_held()

    def memory_foreign(self) -> dict[DeviceId, Bytes]:
        """What other programs hold of each device of which that is known."""
        return self._core.memory_foreign()

    # What the fleet reports.

    def load_progressed(self, model: ModelId, generation: Generation, fraction: float) -> None:
        """As in Reports."""
        self._apply(partial(self._core.load_progressed, model, generation, fraction))

    def load_finished(self, model: ModelId, generation: Generation, outcome: LoadOutcome) -> None:
        """As in Reports."""
        self._apply(partial(self._core.load_finished, model, generation, outcome))

    def worker_died(self, model: ModelId, generation: Generation, error: UnifiedLlmError) -> None:
        """As in Reports."""
        self._apply(partial(self._core.worker_died, model, generation, error))

    def stop_finished(self, model: ModelId, generation: Generation) -> None:
        """As in Reports."""
        self._apply(partial(self._core.stop_finished, model, generation))

    def memory_returned(self, model: ModelId, generation: Generation) -> None:
        """As in Reports."""
        self._apply(partial(self._core.memory_returned, model, generation))

    def memory_read(self, reading: MemoryReading, workers: Mapping[WorkerKey, int]) -> None:
        """As in Scheduler."""
        self._apply(partial(self._core.memory_read, reading, workers))

    # What the core makes happen.

    def begin_load(self, spec: ModelSpec, generation: Generation, placement: Placement) -> None:
        """As in Effects."""
        self._workers.begin_load(spec, generation, placement)

    def begin_stop(self, model: ModelId, generation: Generation, *, grace: Seconds) -> None:
        """As in Effects."""
        self._workers.begin_stop(model, generation, grace=grace)

    def grant(self, ticket: Ticket, model: ModelId, generation: Generation) -> bool:
        """As in Effects."""
        wait = self._waits.get(ticket)
        if wait is None or wait.done():
            return False
        wait.set_result(generation)
        return True

    def refuse(self, ticket: Ticket, error: UnifiedLlmError) -> None:
        """As in Effects."""
        wait = self._waits.get(ticket)
        if wait is not None and not wait.done():
            wait.set_exception(error)

    def reservation_met(self, ticket: Ticket) -> None:
        """As in Effects."""
        on_met = self._on_met.pop(ticket, None)
        if on_met is not None:
            on_met()

    def wake_at(self, moment: Instant | None) -> None:
        """As in Effects."""
        self._alarm.set(moment)

    def announce(self, status: ModelStatus) -> None:
        """As in Effects."""
        self._on_status(status)

    def tell_move(self, moved: ModelMoved) -> None:
        """As in Effects."""
        self._on_moved(moved)

    # How both are joined.

    @asynccontextmanager
    async def _lease(
        self, model: ModelId, principal: str, timeout: Seconds
    ) -> AsyncIterator[Lease]:
        ticket = Ticket(next(self._tickets))
        give_up_at = later(self._clock.now(), timeout)
        request = partial(self._core.requested, ticket, model, principal, give_up_at)
        generation = await self._outcome(ticket, request)
        try:
            yield Lease(model, generation)
        finally:
            self._apply(partial(self._core.lease_returned, ticket))
            self.on_served(model)

    async def _outcome(self, ticket: Ticket, question: Event) -> Generation:
        """Put the question and wait for its answer. Raises what the core refuses with."""
        if not self._core.is_occupied:
            await self._read_memory()
        wait: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        self._waits[ticket] = wait
        try:
            self._apply(question)
            return await wait
        except asyncio.CancelledError:
            # It may have been granted in this very turn of the loop: the core knows.
            self._apply(partial(self._core.cancelled, ticket))
            if wait.done() and not wait.cancelled():
                wait.exception()  # or asyncio reports it as never retrieved
            raise
        finally:
            del self._waits[ticket]

    def _apply(self, event: Event) -> None:
        self._inbox.append(event)
        if self._is_applying:
            return
        self._is_applying = True
        try:
            while self._inbox:
                self.last_turn = self._clock.now()
                self._inbox.popleft()(self.last_turn)
        finally:
            self._is_applying = False
        if self._core.is_closed:
            self._closed.set()
        if self._core.is_empty:
            self._empty.set()
        else:
            self._empty.clear()
