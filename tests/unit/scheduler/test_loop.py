import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.workers import FakeWorkers
from tests.unit.scheduler.scenario import ANNA, CAT, CRASH, DOG, GIB, make_spec
from unified_llm.domain.errors import (
    Closing,
    ModelFailedToLoad,
    NoRoom,
    RequestTimedOut,
    UnifiedLlmError,
    UnknownModel,
)
from unified_llm.domain.events import ModelStatus
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.ports import Leases
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.scheduler.effects import Effects, Reports
from unified_llm.scheduler.loop import SchedulerLoop
from unified_llm.scheduler.policy import SchedulingPolicy

LONG = Seconds(600)


@dataclass
class House:
    loop: SchedulerLoop
    clock: FakeClock
    workers: FakeWorkers
    statuses: list[ModelStatus]


async def settle() -> None:
    """Let every task run until it waits for something that has not happened."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def open_house(*specs: ModelSpec, obedient: bool = True) -> AsyncIterator[House]:
    clock, workers, statuses = FakeClock(), FakeWorkers(obedient=obedient), list[ModelStatus]()
    loop = SchedulerLoop(
        SchedulingPolicy(ram_budget=Bytes(8 * GIB)),
        clock=clock,
        workers=workers,
        on_status=statuses.append,
        jitter=lambda: 1.0,
        call_later=clock.call_later,
    )
    workers.reports = loop
    loop.replace_catalogue({spec.id: spec for spec in specs})
    async with asyncio.TaskGroup() as group:
        running = group.create_task(loop.run())
        yield House(loop, clock, workers, statuses)
        running.cancel()


async def hold(house: House, model: ModelId, entered: asyncio.Event, leave: asyncio.Event) -> None:
    async with house.loop.lease(model, ANNA, timeout=LONG):
        entered.set()
        await leave.wait()


async def attempt(house: House, model: ModelId, timeout: Seconds) -> UnifiedLlmError | None:
    """What the caller is refused with; None if it is served."""
    try:
        await house.loop.ensure_loaded(model, ANNA, timeout=timeout)
    except UnifiedLlmError as error:
        return error
    return None


async def test_the_loop_is_all_its_ports() -> None:
    async with open_house() as house:
        ports: tuple[Leases, Reports, Effects] = (house.loop, house.loop, house.loop)
        assert len(ports) == 3


async def test_a_lease_loads_the_model_and_is_returned_when_the_context_is_left() -> None:
    async with open_house(make_spec(CAT)) as house:
        async with house.loop.lease(CAT, ANNA, timeout=LONG) as lease:
            assert lease.model == CAT
            assert lease.generation == house.workers.running[CAT]
            assert house.loop.status(CAT).leases == 1
        assert house.loop.status(CAT).leases == 0
        assert [status.state for status in house.statuses][-3:] == ["queued", "loading", "ready"]


async def test_a_lease_is_returned_when_its_body_fails() -> None:
    async with open_house(make_spec(CAT)) as house:
        with pytest.raises(ZeroDivisionError):
            async with house.loop.lease(CAT, ANNA, timeout=LONG):
                raise ZeroDivisionError
        assert house.loop.status(CAT).leases == 0


async def test_reports_that_come_while_an_event_is_applied_are_applied_after_it() -> None:
    # An obedient worker reports from inside begin_load and begin_stop.
    async with open_house(make_spec(CAT, 8), make_spec(DOG, 8)) as house:
        await house.loop.ensure_loaded(CAT, ANNA, timeout=LONG)
        await house.loop.ensure_loaded(DOG, ANNA, timeout=LONG)
        assert set(house.workers.running) == {DOG}
        await house.loop.unload(DOG, ANNA, timeout=LONG)
        assert house.workers.running == {}
        assert house.loop.memory_committed == 0


async def test_a_suspension_is_over_when_the_memory_is_empty() -> None:
    specs = (make_spec(CAT), make_spec(DOG))
    async with open_house(*specs, obedient=False) as house, asyncio.TaskGroup() as group:
        loads = [
            group.create_task(house.loop.ensure_loaded(model, ANNA, timeout=LONG))
            for model in (CAT, DOG)
        ]
        await settle()
        house.workers.finish_load(CAT)
        await loads[0]
        assert house.loop.begin_suspension(Seconds(4)) == {CAT}
        emptied = group.create_task(house.loop.emptied())
        house.workers.finish_stop(CAT)
        await settle()
        assert not emptied.done()
        house.workers.finish_stop(DOG)
        await emptied
        assert not loads[1].done()
        house.loop.resume()
        house.workers.finish_load(DOG)


async def test_a_cancelled_waiter_leaves_the_queue() -> None:
    async with open_house(make_spec(CAT), obedient=False) as house:
        async with asyncio.TaskGroup() as group:
            waiter = group.create_task(house.loop.ensure_loaded(CAT, ANNA, timeout=LONG))
            await settle()
            assert house.loop.status(CAT).waiting == 1
            waiter.cancel()
        assert house.loop.status(CAT).waiting == 0
        house.workers.finish_load(CAT)
        assert house.loop.status(CAT).leases == 0


async def test_a_lease_granted_in_the_turn_of_its_cancellation_is_returned() -> None:
    async with open_house(make_spec(CAT), obedient=False) as house:
        async with asyncio.TaskGroup() as group:
            waiter = group.create_task(hold(house, CAT, asyncio.Event(), asyncio.Event()))
            await settle()
            house.workers.finish_load(CAT)
            assert house.loop.status(CAT).leases == 1
            waiter.cancel()
        assert house.loop.status(CAT).leases == 0


async def test_a_refusal_in_the_turn_of_the_cancellation_is_not_left_unretrieved() -> None:
    async with open_house(make_spec(CAT), obedient=False) as house:
        complaints: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, text: complaints.append(text))
        async with asyncio.TaskGroup() as group:
            waiter = group.create_task(house.loop.ensure_loaded(CAT, ANNA, timeout=LONG))
            await settle()
            house.workers.fail_load(CAT, ModelFailedToLoad("broken"))
            waiter.cancel()
        del waiter
        assert complaints == []


async def test_a_waiter_times_out_by_the_clock() -> None:
    async with open_house(make_spec(CAT), obedient=False) as house, asyncio.TaskGroup() as group:
        waiter = group.create_task(attempt(house, CAT, Seconds(30)))
        await settle()
        house.clock.advance(29)
        await settle()
        assert not waiter.done()
        house.clock.advance(1)
        assert isinstance(await waiter, RequestTimedOut)


async def test_an_idle_loop_sets_no_alarm() -> None:
    async with open_house(make_spec(CAT), make_spec(DOG, keep_alive=300)) as house:
        await house.loop.ensure_loaded(CAT, ANNA, timeout=LONG)
        assert house.clock.next_alarm() is None
        await house.loop.ensure_loaded(DOG, ANNA, timeout=LONG)
        assert house.clock.next_alarm() == Seconds(300)
        house.clock.advance(300)
        await settle()
        assert set(house.workers.running) == {CAT}
        assert house.clock.next_alarm() is None


async def test_refusals_are_raised_to_the_caller() -> None:
    async with open_house(make_spec(CAT), obedient=False) as house, asyncio.TaskGroup() as group:
        with pytest.raises(UnknownModel):
            await house.loop.ensure_loaded(DOG, ANNA, timeout=LONG)
        with pytest.raises(UnknownModel):
            house.loop.status(DOG)
        waiter = group.create_task(attempt(house, CAT, LONG))
        await settle()
        house.workers.fail_load(CAT, ModelFailedToLoad("broken"))
        error = await waiter
        assert isinstance(error, ModelFailedToLoad)
        assert "broken" in error.message


async def test_a_death_ends_no_wait_and_the_next_worker_serves() -> None:
    async with open_house(make_spec(CAT)) as house, asyncio.TaskGroup() as group:
        entered, leave = asyncio.Event(), asyncio.Event()
        group.create_task(hold(house, CAT, entered, leave))
        await entered.wait()
        served = asyncio.Event()
        group.create_task(hold(house, CAT, served, leave))
        await settle()
        house.workers.die(CAT, CRASH)
        assert house.loop.status(CAT).state is ModelState.QUEUED
        house.clock.advance(1)
        await served.wait()
        leave.set()
        await settle()
        assert house.loop.status(CAT).leases == 0


async def test_closing_waits_for_leases_until_the_grace_is_over() -> None:
    async with open_house(make_spec(CAT)) as house, asyncio.TaskGroup() as group:
        entered, leave = asyncio.Event(), asyncio.Event()
        group.create_task(hold(house, CAT, entered, leave))
        await entered.wait()
        closing = group.create_task(house.loop.close(Seconds(20)))
        await settle()
        with pytest.raises(Closing):
            await house.loop.ensure_loaded(CAT, ANNA, timeout=LONG)
        house.clock.advance(19)
        await settle()
        assert not closing.done()
        house.clock.advance(1)
        await closing
        assert house.workers.running == {}
        leave.set()


async def test_a_loaded_model_is_loaded_at_once_however_busy_it_is() -> None:
    spec = make_spec(CAT)
    full = spec.slots + SchedulingPolicy(ram_budget=Bytes(0)).queue_limit
    async with open_house(spec) as house, asyncio.TaskGroup() as group:
        leave, entered = asyncio.Event(), [asyncio.Event() for _ in range(full)]
        for each in entered:
            group.create_task(hold(house, CAT, each, leave))
        await settle()
        before = house.loop.status(CAT)
        assert before.waiting + before.leases == full
        await house.loop.ensure_loaded(CAT, ANNA, timeout=Seconds(0))
        assert house.loop.status(CAT) == before
        leave.set()


async def test_a_load_is_done_when_the_model_serves_though_others_came_first() -> None:
    async with open_house(make_spec(CAT), obedient=False) as house:
        leave, entered = asyncio.Event(), [asyncio.Event() for _ in range(9)]
        async with asyncio.TaskGroup() as group:
            for each in entered:
                group.create_task(hold(house, CAT, each, leave))
            await settle()
            loading = group.create_task(house.loop.ensure_loaded(CAT, ANNA, timeout=LONG))
            await settle()
            house.workers.finish_load(CAT)
            await loading
            assert house.loop.status(CAT).waiting > 0
            leave.set()


async def test_a_ping_proves_that_events_are_applied() -> None:
    async with open_house() as house:
        house.clock.advance(5)
        before = house.loop.last_turn
        await house.loop.ping()
        assert house.loop.last_turn == before + 5


async def test_a_loop_that_does_not_run_answers_no_ping() -> None:
    async with open_house() as house:
        pass
    async with asyncio.TaskGroup() as group:
        ping = group.create_task(house.loop.ping())
        await settle()
        assert not ping.done()
        ping.cancel()


async def test_the_real_alarm_rings_by_itself() -> None:
    workers = FakeWorkers()
    clock = asyncio.get_running_loop().time
    loop = SchedulerLoop(
        SchedulingPolicy(ram_budget=Bytes(8 * GIB)),
        clock=type("LoopClock", (), {"now": staticmethod(clock)})(),
        workers=workers,
        on_status=lambda _: None,
        jitter=lambda: 1.0,
    )
    workers.reports = loop
    loop.replace_catalogue({CAT: make_spec(CAT)})
    async with asyncio.TaskGroup() as group:
        running = group.create_task(loop.run())
        with pytest.raises(RequestTimedOut):
            await loop.ensure_loaded(CAT, ANNA, timeout=Seconds(0.01))
        running.cancel()


async def test_a_switch_ends_when_the_one_serves_and_the_other_has_answered_and_left() -> None:
    async with open_house(make_spec(CAT), make_spec(DOG)) as house:
        entered, leave = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(hold(house, CAT, entered, leave))
            await entered.wait()
            switching = group.create_task(house.loop.switch(CAT, DOG, ANNA, timeout=LONG))
            await settle()
            assert house.loop.status(DOG).state is ModelState.READY
            assert house.loop.status(CAT).state is ModelState.READY
            assert not switching.done()
            leave.set()
            await switching
        assert set(house.workers.running) == {DOG}


async def test_a_switch_to_what_does_not_load_leaves_everything_as_it_was() -> None:
    async with open_house(make_spec(CAT), make_spec(DOG, 9)) as house:
        await house.loop.ensure_loaded(CAT, ANNA, timeout=LONG)
        with pytest.raises(NoRoom):
            await house.loop.switch(CAT, DOG, ANNA, timeout=LONG)
        assert set(house.workers.running) == {CAT}
