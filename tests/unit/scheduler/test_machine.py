"""The core against every order of events that hypothesis can think of."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fakes.effects import FakeEffects
from tests.unit.scheduler.scenario import ANNA, BERT, CAT, CRASH, DOG, GIB, OWL, make_spec
from unified_llm.domain.arrival import Arrival
from unified_llm.domain.errors import ModelFailedToLoad, NoRoom
from unified_llm.domain.events import ModelStatus
from unified_llm.domain.lifecycle import ModelState, may_become
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Instant, Seconds, Tokens
from unified_llm.scheduler.core import Scheduler
from unified_llm.scheduler.effects import Generation, LoadedModel, LoadOutcome, Ticket
from unified_llm.scheduler.policy import SchedulingPolicy

pytestmark = pytest.mark.slow

Worker = tuple[ModelId, Generation]

SPECS = {
    CAT: make_spec(CAT, 5, slots=2, keep_alive=60),
    DOG: make_spec(DOG, 4),
    OWL: make_spec(OWL, 3, pinned=True),
}
POLICY = SchedulingPolicy(ram_budget=Bytes(8 * GIB), queue_limit=4)
FATES: tuple[LoadOutcome, ...] = (
    ModelFailedToLoad("The header is broken."),
    NoRoom("The kernel killed it."),
)


class Fleet(FakeEffects):
    """Effects with processes behind them, and the promises that must hold in every call."""

    def __init__(self) -> None:
        super().__init__()
        self.loading: set[Worker] = set()
        self.running: set[Worker] = set()
        self.gone: set[Ticket] = set()
        self.unreturned: dict[Worker, int] = {}
        self.states: dict[ModelId, ModelState] = {}
        self.leased: dict[Ticket, ModelId] = {}
        self.lease_wanted: set[Ticket] = set()
        self.may_break_leases: set[ModelId] = set()
        self.is_suspended = False

    @property
    def alive(self) -> list[Worker]:
        return sorted(self.loading | self.running)

    def begin_load(self, spec: ModelSpec, generation: Generation, placement: Placement) -> None:
        super().begin_load(spec, generation, placement)
        assert not self.is_suspended, "a model is loaded although the machine goes to sleep"
        assert all(model != spec.id for model, _ in self.alive), "a second worker for a model"
        self.loading.add((spec.id, generation))
        self.unreturned[spec.id, generation] = placement.ram_bytes
        assert sum(self.unreturned.values()) <= POLICY.ram_budget, "memory is over-committed"

    def begin_stop(self, model: ModelId, generation: Generation, *, grace: Seconds) -> None:
        super().begin_stop(model, generation, grace=grace)
        assert model not in self.leased.values() or model in self.may_break_leases, (
            "a model was stopped with leases out, although nobody unloads it"
        )

    def grant(self, ticket: Ticket, model: ModelId, generation: Generation) -> bool:
        if not super().grant(ticket, model, generation):
            return False
        if ticket in self.lease_wanted:
            assert (model, generation) in self.running, "a lease on a model that does not serve"
            self.leased[ticket] = model
            assert list(self.leased.values()).count(model) <= SPECS[model].slots
        return True

    def announce(self, status: ModelStatus) -> None:
        super().announce(status)
        before = self.states.get(status.id, status.state)
        assert status.state is before or may_become(before, status.state)
        self.states[status.id] = status.state
        if status.state is not ModelState.DRAINING and not status.state.has_worker:
            self.may_break_leases.discard(status.id)


class SchedulerMachine(RuleBasedStateMachine):
    """Callers, workers and time do what they like."""

    @initialize()
    def start(self) -> None:
        self.effects = Fleet()
        self.core = Scheduler(POLICY, self.effects, jitter=lambda: 0.5)
        self.now = Instant(0)
        self.open: set[Ticket] = set()
        self.cancelled: set[Ticket] = set()
        self.issued = 0
        self.specs = dict(SPECS)
        self.is_closing = False
        self.ended: dict[Worker, Instant] = {}
        self.core.catalogue(self.specs, self.now)

    def ticket(self) -> Ticket:
        self.issued += 1
        self.open.add(Ticket(self.issued))
        return Ticket(self.issued)

    @rule(
        model=st.sampled_from([CAT, DOG, OWL]),
        principal=st.sampled_from([ANNA, BERT]),
        patience=st.sampled_from([0, 30, 600]),
        by_hand=st.booleans(),
    )
    def ask(self, model: ModelId, principal: str, patience: float, by_hand: bool) -> None:
        ticket = self.ticket()
        self.effects.lease_wanted.add(ticket)
        give_up_at = Instant(self.now + patience)
        self.core.requested(ticket, model, principal, give_up_at, self.now, by_hand=by_hand)

    @precondition(lambda self: self.issued % 4 == 3)
    @rule(model=st.sampled_from([CAT, DOG, OWL]), patience=st.sampled_from([1, 600]))
    def unload(self, model: ModelId, patience: float) -> None:
        self.effects.may_break_leases.add(model)
        give_up_at = Instant(self.now + patience)
        self.core.unload_asked(self.ticket(), model, ANNA, give_up_at, self.now)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.waiting)))
        self.cancelled.add(ticket)
        self.core.cancelled(ticket, self.now)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def vanish_without_a_word(self, data: st.DataObject) -> None:
        """The caller is gone, and the core finds out when it grants."""
        self.effects.gone.add(data.draw(st.sampled_from(sorted(self.waiting))))

    @precondition(lambda self: self.effects.leased)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.effects.leased)))
        del self.effects.leased[ticket]
        self.core.lease_returned(ticket, self.now)

    @precondition(lambda self: self.effects.loading)
    @rule()
    def serve(self) -> None:
        """Every load that has begun ends well."""
        for worker in sorted(self.effects.loading):
            self.effects.loading.discard(worker)
            self.effects.running.add(worker)
            slots = next(e.placement.slots for e in self.effects.loads if e.generation == worker[1])
            self.core.load_progressed(*worker, 0.5, self.now)
            self.core.load_finished(*worker, LoadedModel(Tokens(4096), slots), self.now)

    @rule(model=st.sampled_from([CAT, DOG, OWL]))
    def ask_and_serve(self, model: ModelId) -> None:
        """What happens most of the time; without it hypothesis would seldom see a lease."""
        self.ask(model, ANNA, 600, False)
        self.serve()

    @rule(model=st.sampled_from([CAT, DOG]))
    def swap(self, model: ModelId) -> None:
        """Somebody wants in, and the fleet does at once what it is told."""
        self.ask_and_serve(model)
        self.wait(11.0)
        for stop in tuple(self.effects.stops):
            self.stop_ends((stop.model, stop.generation))
        self.wait(5.0)
        self.serve()

    @precondition(lambda self: self.effects.loading)
    @rule(data=st.data(), fate=st.sampled_from(FATES))
    def fail_load(self, data: st.DataObject, fate: LoadOutcome) -> None:
        worker = data.draw(st.sampled_from(sorted(self.effects.loading)))
        self.effects.loading.discard(worker)
        self.effects.running.add(worker)
        self.core.load_finished(*worker, fate, self.now)
        self.stop_ends(worker)

    @precondition(lambda self: self.effects.stops)
    @rule(data=st.data())
    def finish_stop(self, data: st.DataObject) -> None:
        stop = data.draw(st.sampled_from(self.effects.stops))
        # One that is not running any more is reported again: the core must not care.
        self.stop_ends((stop.model, stop.generation))

    @precondition(lambda self: self.effects.alive and self.issued % 3 == 0)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.effects.alive))
        self.end(worker)
        self.core.worker_died(*worker, CRASH, self.now)

    @precondition(lambda self: self.gone_unreturned)
    @rule(data=st.data())
    def return_memory(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.gone_unreturned))
        self.effects.unreturned.pop(worker)
        self.core.memory_returned(*worker, self.now)

    @rule(seconds=st.sampled_from([0.5, 4.0, 11.0, 35.0, 700.0]))
    def wait(self, seconds: float) -> None:
        end = Instant(self.now + seconds)
        while (wake := self.effects.wake) is not None and wake <= end:
            self.now, self.effects.wake = max(self.now, wake), None
            for worker in self.gone_unreturned:
                # After the limit the core no longer waits, so neither does the reckoning here.
                if self.now >= self.ended[worker] + POLICY.memory_return_limit:
                    del self.effects.unreturned[worker]
            self.core.woke(self.now)
        self.now = end

    @precondition(lambda self: self.issued % 5 == 4)
    @rule(model=st.sampled_from([CAT, DOG, OWL]))
    def change_catalogue(self, model: ModelId) -> None:
        if self.specs.pop(model, None) is None:
            self.specs[model] = SPECS[model]
        else:
            self.effects.may_break_leases.add(model)
        self.core.catalogue(self.specs, self.now)

    @precondition(lambda self: self.issued % 7 == 5)
    @rule(seconds=st.sampled_from([0.5, 4.0, 35.0]))
    def sleep(self, seconds: float) -> None:
        """After the time that a suspension was given, workers that do as they are told are gone."""
        self.effects.is_suspended = True
        self.effects.may_break_leases |= {model for model, _ in self.effects.alive}
        self.core.suspended(Seconds(seconds), self.now)
        self.wait(seconds)
        told = {(stop.model, stop.generation) for stop in self.effects.stops}
        assert told >= set(self.effects.alive)
        for worker in self.effects.alive:
            self.stop_ends(worker)
        for worker in self.gone_unreturned:
            self.effects.unreturned.pop(worker)
            self.core.memory_returned(*worker, self.now)
        assert self.core.is_empty

    @precondition(lambda self: self.effects.is_suspended)
    @rule()
    def wake_up(self) -> None:
        self.effects.is_suspended = False
        self.core.resumed(self.now)

    @precondition(lambda self: self.issued > 20 and not self.is_closing)
    @rule()
    def close(self) -> None:
        self.begin_closing()

    @property
    def waiting(self) -> set[Ticket]:
        return (
            self.open - set(self.effects.granted) - set(self.effects.refused) - self.cancelled
        ) - self.effects.gone

    @property
    def gone_unreturned(self) -> list[Worker]:
        return sorted(set(self.effects.unreturned) - set(self.effects.alive))

    def stop_ends(self, worker: Worker) -> None:
        self.end(worker)
        self.core.stop_finished(*worker, self.now)

    def end(self, worker: Worker) -> None:
        if worker in self.effects.alive:
            self.ended[worker] = self.now
            self.effects.loading.discard(worker)
            self.effects.running.discard(worker)
            for ticket, model in tuple(self.effects.leased.items()):
                if model == worker[0]:
                    del self.effects.leased[ticket]

    def begin_closing(self) -> None:
        self.is_closing = True
        self.effects.may_break_leases |= set(SPECS)
        self.core.closing(Seconds(20), self.now)

    @invariant()
    def states_and_workers_agree(self) -> None:
        alive = {model for model, _ in self.effects.alive}
        for status in self.core.statuses():
            assert status.state.has_worker == (status.id in alive), status
            assert status.state is self.effects.states[status.id], "a change was not announced"
            assert status.leases == list(self.effects.leased.values()).count(status.id)

    @invariant()
    def a_forecast_changes_nothing_and_names_only_who_may_leave(self) -> None:
        before = self.core.statuses()
        for status in before:
            arrival = self.core.room.forecast(status.id, self.now)
            if status.state is ModelState.READY:
                assert arrival == Arrival(Seconds(0), ())
            for leaving in arrival.leaving or ():
                assert leaving != status.id
                assert self.core.status(leaving).state is ModelState.READY
                assert not SPECS[leaving].pinned
        assert self.core.statuses() == before

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        for status in self.core.statuses():
            if status.waiting:
                assert status.state not in {
                    ModelState.ABSENT,
                    ModelState.AVAILABLE,
                    ModelState.FAILED,
                }
                assert self.effects.wake is not None, "somebody waits and nobody will wake"
            if status.state is ModelState.QUEUED:
                assert status.waiting

    @invariant()
    def tickets_are_counted_right(self) -> None:
        ended = set(self.effects.granted) | set(self.effects.refused) | self.cancelled
        assert set(self.effects.granted).isdisjoint(self.effects.refused)
        counted = sum(status.waiting for status in self.core.statuses())
        assert counted <= len(self.open - ended)

    def teardown(self) -> None:
        """After closing everything ends, whatever has happened before."""
        if not self.issued:
            return
        self.begin_closing()
        for _ in range(200):
            if self.core.is_closed:
                break
            self.wait(35.0)
            for worker in self.effects.alive:
                self.end(worker)
                self.core.stop_finished(*worker, self.now)
        assert self.core.is_closed
        assert not self.effects.alive
        assert not self.waiting, "a ticket was dropped"


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
