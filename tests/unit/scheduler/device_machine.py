"""The core against any order of events on a machine with a GPU, readings, reservations and others.

`python -m tests.unit.scheduler.device_machine` takes 10^5 steps of it, and prints its seeds.

The machine knows the truth: what each worker has taken, what lingers after one is gone, what other
programs hold. The core knows only readings. When the machine is told to calm down, loads, answers
and stops take the time they should, and then nobody may wait longer than the bound; and one who
waits while other models are asked without a pause, no longer than promised.
"""

import argparse
import logging
import random
import secrets
from dataclasses import dataclass
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.fakes.effects import FakeEffects
from tests.unit.scheduler.scenario import ANNA, BERT, CAT, CRASH, DOG, GIB, OWL, make_spec
from unified_llm.domain.devices import (
    RAM,
    DeviceId,
    DeviceMemory,
    MemoryReading,
    ProcessMemory,
)
from unified_llm.domain.errors import Inhibited, ModelFailedToLoad, NoRoom, RequestTimedOut
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import GpuUse, ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Instant, Seconds
from unified_llm.scheduler.core import Scheduler
from unified_llm.scheduler.effects import Generation, LoadedModel, Ticket
from unified_llm.scheduler.ledger import WorkerKey
from unified_llm.scheduler.policy import SchedulingPolicy

ANT: Final = ModelId("ant")
CARL: Final = "uid:1002"
GPU: Final = DeviceId("fake:0")
TOTAL: Final = Bytes(24 * GIB)
POLICY: Final = SchedulingPolicy(
    ram_budget=Bytes(12 * GIB),
    queue_limit=4,
    backoff_last=Seconds(4),
    failures_before_failed=50,
)
SPECS: Final = {
    CAT: make_spec(CAT, 8, slots=2, priority=10, keep_alive=120),
    DOG: make_spec(DOG, 12, priority=90, gpu=GpuUse.REQUIRED),
    OWL: make_spec(OWL, 5, slots=2),
    ANT: make_spec(ANT, 9, gpu=GpuUse.OFF, priority=70),
}
LIMIT: Final = int(TOTAL * POLICY.fill_share)

# What things take once the machine is calm.
ANSWER, LOAD, STOP, READ = 3.0, 2.0, 1.0, 1.0
# With four models and four requests each at most, of which a turn serves at least one: everybody's
# turn comes after all others', and each costs its drain, stop, reading and load.
BOUND: Final = POLICY.queue_limit * len(SPECS) * (POLICY.turn + ANSWER + STOP + READ + LOAD) + (
    POLICY.ageing + POLICY.memory_return_limit + POLICY.backoff_last
)

# The longest turn, a swap, and the answer that a slot is waited for, each end of which is seen by
# the next reading; of these models no three stand in each other's way. Failures before may make the
# model wait for its backoff.
PATIENCE: Final = (
    POLICY.ageing + POLICY.backoff_last + (STOP + READ) + READ + (LOAD + READ) + (ANSWER + READ)
)


class Truth(FakeEffects):
    """Effects on a machine whose real state is known.

    taken: what living workers were given. lingering: what is not returned of those that are gone.
    seen_foreign, seen_lingering: as the last reading had them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[WorkerKey, Placement] = {}
        self.loading: set[WorkerKey] = set()
        self.lingering: dict[WorkerKey, Placement] = {}
        self.reserved: dict[Ticket, Bytes] = {}
        self.foreign = self.seen_foreign = 0
        self.leased: dict[Ticket, WorkerKey] = {}
        self.no_lease: set[Ticket] = set()

    def used(self) -> int:
        """What is in use of the GPU."""
        ours = [*self.taken.values(), *self.lingering.values()]
        return self.foreign + sum(each.memory.get(GPU, 0) for each in ours)

    def begin_load(self, spec: ModelSpec, generation: Generation, placement: Placement) -> None:
        """As in Effects."""
        super().begin_load(spec, generation, placement)
        assert all(model != spec.id for model, _ in self.taken), "a second worker for a model"
        key = (spec.id, generation)
        self.taken[key] = placement
        self.loading.add(key)
        if placement.memory.get(GPU):
            ours = self.used() - self.foreign
            kept = sum(self.reserved.values())
            assert ours + self.seen_foreign + kept <= LIMIT, "the GPU is over-committed"

    def grant(self, ticket: Ticket, model: ModelId, generation: Generation) -> bool:
        """As in Effects."""
        super().grant(ticket, model, generation)
        if ticket not in self.no_lease:
            key = (model, generation)
            assert key in self.taken, "a lease on a worker that is gone"
            assert key not in self.loading, "a lease on a model that does not serve"
            self.leased[ticket] = key
            assert list(self.leased.values()).count(key) <= self.taken[key].slots
        return True


@dataclass(frozen=True, slots=True)
class Calm:
    """Since when answers, stops and loads have been under way."""

    held: dict[Ticket, Instant]
    told: dict[WorkerKey, Instant]
    loading: dict[WorkerKey, Instant]


class DeviceMachine(RuleBasedStateMachine):
    """Callers, workers, other programs and time do what they like."""

    steps = 0
    grants = 0
    contests = 0
    longest = 0.0

    @initialize()
    def start(self) -> None:
        self.truth = Truth()
        self.core = Scheduler(POLICY, self.truth, jitter=lambda: 0.5)
        self.now = Instant(0)
        self.since: dict[Ticket, Instant] = {}
        self.issued = 0
        self.core.catalogue(SPECS, self.now)
        self.read()

    # Callers.

    @rule(model=st.sampled_from([*SPECS]), principal=st.sampled_from([ANNA, BERT]))
    def ask(self, model: ModelId, principal: str) -> None:
        ticket = self.ticket()
        self.core.requested(ticket, model, principal, Instant(self.now + 1e6), self.now)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        del self.since[ticket]
        self.core.cancelled(ticket, self.now)

    @precondition(lambda self: self.truth.leased)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.lease_ends(data.draw(st.sampled_from(sorted(self.truth.leased))))

    @precondition(lambda self: self.issued % 6 == 5)
    @rule(model=st.sampled_from([*SPECS]))
    def unload(self, model: ModelId) -> None:
        ticket = self.ticket()
        self.truth.no_lease.add(ticket)
        self.core.unload_asked(ticket, model, ANNA, Instant(self.now + 1e6), self.now)

    @precondition(lambda self: not self.truth.reserved)
    @rule(gib=st.sampled_from([4, 10, 18]))
    def reserve(self, gib: int) -> None:
        if self.core.objection_to_reserving(Bytes(gib * GIB)) is None:
            self.issued += 1
            ticket = Ticket(self.issued)
            self.truth.reserved[ticket] = Bytes(gib * GIB)
            self.core.reserved(ticket, Bytes(gib * GIB), self.now)

    @precondition(lambda self: self.truth.reserved)
    @rule()
    def unreserve(self) -> None:
        ticket, _ = self.truth.reserved.popitem()
        self.core.unreserved(ticket, self.now)

    @precondition(lambda self: self.issued % 5 == 4)
    @rule(loads=st.booleans(), evictions=st.booleans())
    def inhibit(self, loads: bool, evictions: bool) -> None:
        error = Inhibited("The disk is busy.") if loads else None
        self.core.inhibited(error, self.now, are_evictions_inhibited=evictions)

    # Workers.

    @rule(model=st.sampled_from([*SPECS]))
    def ask_and_serve(self, model: ModelId) -> None:
        """What happens most of the time."""
        self.ask(model, ANNA)
        self.loads_end()

    @precondition(lambda self: self.truth.loading)
    @rule()
    def loads_end(self) -> None:
        for key in sorted(self.truth.loading):
            self.truth.loading.discard(key)
            placement = self.truth.taken[key]
            loaded = LoadedModel(placement.context_tokens, placement.slots)
            self.core.load_finished(*key, loaded, self.now)

    @precondition(lambda self: self.truth.loading and self.issued % 3 == 0)
    @rule(data=st.data(), is_full=st.booleans())
    def load_fails(self, data: st.DataObject, is_full: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.truth.loading)))
        self.truth.loading.discard(key)
        error = NoRoom("cudaMalloc failed.") if is_full else ModelFailedToLoad("It is broken.")
        self.core.load_finished(*key, error, self.now)
        self.worker_ends(key)
        self.core.stop_finished(*key, self.now)

    @precondition(lambda self: self.stopping)
    @rule(data=st.data())
    def stop_ends(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.stopping))
        self.worker_ends(key)
        self.core.stop_finished(*key, self.now)

    @precondition(lambda self: self.truth.taken and self.issued % 4 == 0)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.truth.taken)))
        self.worker_ends(key)
        self.core.worker_died(*key, CRASH, self.now)

    @precondition(lambda self: self.truth.lingering)
    @rule()
    def memory_returns(self) -> None:
        for key in sorted(self.truth.lingering):
            del self.truth.lingering[key]
            self.core.memory_returned(*key, self.now)

    # The machine.

    @rule(gib=st.sampled_from([0, 4, 10, 14.4, 20]))
    def others_hold(self, gib: float) -> None:
        """Other programs take or give back memory, and a reading tells."""
        self.truth.foreign = int(gib * GIB)
        self.read()

    @rule()
    def read(self) -> None:
        pids = {key: 100 + number for number, key in enumerate(sorted(self.truth.taken))}
        processes = tuple(
            ProcessMemory(pid, self.truth.taken[key].memory.get(GPU, Bytes(0)))
            for key, pid in pids.items()
        )
        gpu = DeviceMemory(GPU, "GPU", TOTAL, Bytes(self.truth.used()), processes)
        ram = DeviceMemory(RAM, "RAM", None, None)
        self.truth.seen_foreign = self.truth.foreign
        self.core.memory_read(MemoryReading(self.now, (ram, gpu)), pids, self.now)

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 65.0]))
    def wait(self, seconds: float) -> None:
        end = Instant(self.now + seconds)
        while (wake := self.truth.wake) is not None and wake <= end:
            self.now, self.truth.wake = max(self.now, wake), None
            self.core.woke(self.now)
        self.now = end

    @precondition(lambda self: self.issued % 10 == 9)
    @rule()
    def calm_down(self) -> None:
        """From now on everything takes the time it should, and who waits is served in time."""
        calm, begun = self.begin_calm(), self.now
        while self.waiting:
            assert self.now - begun <= BOUND, f"waiting for {BOUND} s: {self.waiting}"
            self.go_on(calm)
        self.check_none_timed_out()

    @precondition(lambda self: self.issued % 5 == 4)
    @rule(model=st.sampled_from([*SPECS]), rivals=st.sets(st.sampled_from([*SPECS])))
    def compete(self, model: ModelId, rivals: set[ModelId]) -> None:
        """One waits while other models are asked without a pause."""
        calm, begun = self.begin_calm(), self.now
        self.ask(model, CARL)
        ticket = Ticket(self.issued)
        while ticket in self.waiting:
            waited = self.now - begun
            assert waited <= PATIENCE, f"{model} waits for {waited} s beside {rivals}"
            for rival in sorted(rivals - {model}):
                if self.core.status(rival).waiting < POLICY.queue_limit:
                    self.ask(rival, ANNA)
            self.go_on(calm)
        self.check_none_timed_out()
        if ticket in self.truth.granted:
            type(self).contests += 1
            type(self).longest = max(self.longest, self.now - begun)

    def begin_calm(self) -> Calm:
        self.core.inhibited(None, self.now, are_evictions_inhibited=False)
        if self.truth.reserved:
            self.unreserve()
        self.others_hold(0)
        return Calm(
            dict.fromkeys(self.truth.leased, self.now),
            dict.fromkeys(self.stopping, self.now),
            dict.fromkeys(self.truth.loading, self.now),
        )

    def go_on(self, calm: Calm) -> None:
        """A second passes, and ends what has taken its time."""
        self.wait(READ)
        for ticket in sorted(self.truth.leased):
            if calm.held.setdefault(ticket, self.now) + ANSWER <= self.now:
                self.lease_ends(ticket)
        for key in self.stopping:
            if calm.told.setdefault(key, self.now) + STOP <= self.now:
                self.worker_ends(key)
                self.core.stop_finished(*key, self.now)
        if self.truth.lingering:
            self.memory_returns()
        begun = calm.loading
        if any(begun.setdefault(key, self.now) + LOAD <= self.now for key in self.truth.loading):
            self.loads_end()
        self.read()

    # What must hold at all times.

    @invariant()
    def ledger_equals_the_truth(self) -> None:
        type(self).steps += 1
        held = self.core.memory_held()
        for device in (RAM, GPU):
            taken = sum(each.memory.get(device, 0) for each in self.truth.taken.values())
            assert held.get(device, 0) == taken, f"{device}: {held} against {taken}"
        assert held.get(RAM, 0) <= POLICY.ram_budget

    @precondition(lambda self: type(self).steps % 5 == 0)
    @invariant()
    def a_forecast_changes_nothing_and_names_only_who_may_leave(self) -> None:
        before = self.core.statuses()
        model = before[type(self).steps // 5 % len(before)].id
        for leaving in self.core.room.forecast(model, self.now).leaving or ():
            assert leaving != model
            assert self.core.status(leaving).state is ModelState.READY
        assert self.core.statuses() == before

    @invariant()
    def statuses_agree(self) -> None:
        alive = {model for model, _ in self.truth.taken}
        for status in self.core.statuses():
            assert status.state.has_worker == (status.id in alive), status
            leased = [model for model, _ in self.truth.leased.values()].count(status.id)
            assert status.leases == leased
        waiting = sum(status.waiting for status in self.core.statuses())
        assert waiting == len([each for each in self.waiting if each not in self.truth.no_lease])

    def check_none_timed_out(self) -> None:
        for error in self.truth.refused.values():
            assert not isinstance(error, RequestTimedOut)

    @property
    def waiting(self) -> list[Ticket]:
        ended = self.truth.granted.keys() | self.truth.refused.keys()
        return sorted(self.since.keys() - ended)

    @property
    def stopping(self) -> list[WorkerKey]:
        told = {(stop.model, stop.generation) for stop in self.truth.stops}
        return sorted(told & self.truth.taken.keys())

    def ticket(self) -> Ticket:
        self.issued += 1
        self.since[Ticket(self.issued)] = self.now
        return Ticket(self.issued)

    def lease_ends(self, ticket: Ticket) -> None:
        del self.truth.leased[ticket]
        self.core.lease_returned(ticket, self.now)

    def worker_ends(self, key: WorkerKey) -> None:
        self.truth.loading.discard(key)
        self.truth.lingering[key] = self.truth.taken.pop(key)
        for ticket, holder in tuple(self.truth.leased.items()):
            if holder == key:
                del self.truth.leased[ticket]

    def teardown(self) -> None:
        """Calm down, and close: every ticket has ended."""
        if not hasattr(self, "core"):
            return
        self.calm_down()
        type(self).grants += len(self.truth.granted)
        self.core.closing(Seconds(5), self.now)
        for _ in range(100):
            if self.core.is_closed:
                break
            self.wait(6)
            for key in self.stopping:
                self.worker_ends(key)
                self.core.stop_finished(*key, self.now)
        assert self.core.is_closed
        assert not self.waiting, "a ticket was dropped"


def run_with(number: int, examples: int, steps: int) -> None:
    """So many histories of so many steps, drawn from that seed."""
    test = seed(number)(DeviceMachine)
    run_state_machine_as_test(
        test,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None, help="of the row of seeds")
    asked = parser.parse_args()
    logging.disable(logging.ERROR)
    first = secrets.randbits(32) if asked.seed is None else asked.seed
    draw = random.Random(first)
    print(f"row {first}")
    while DeviceMachine.steps < asked.steps:
        number = draw.getrandbits(32)
        print(f"seed {number}", end=" ", flush=True)
        run_with(number, examples=40, steps=100)
        print(f"{DeviceMachine.steps} steps, {DeviceMachine.grants} grants", flush=True)
    print(
        f"{DeviceMachine.contests} waited beside others for at most {DeviceMachine.longest:.0f} s "
        f"of {PATIENCE:.0f} s"
    )


if __name__ == "__main__":
    main()
