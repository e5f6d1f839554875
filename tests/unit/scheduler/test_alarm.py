import asyncio

from tests.fakes.clock import FakeClock
from unified_llm.domain.units import Instant
from unified_llm.scheduler.alarm import AlarmClock


async def test_it_rings_at_the_moment_set_last_and_not_at_one_before() -> None:
    clock = FakeClock()
    alarm = AlarmClock(clock, clock.call_later)
    alarm.set(Instant(clock.now() + 5))
    alarm.set(Instant(clock.now() + 9))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(alarm.wait())
        clock.advance(6)
        await asyncio.sleep(0)
        assert not waiting.done()
        clock.advance(4)
        await waiting


async def test_a_ping_returns_when_it_is_answered_and_harms_nobody_if_its_caller_leaves() -> None:
    clock = FakeClock()
    alarm = AlarmClock(clock, clock.call_later)
    async with asyncio.TaskGroup() as group:
        staying = group.create_task(alarm.ping())
        leaving = group.create_task(alarm.ping())
        await asyncio.sleep(0)
        await alarm.wait()
        leaving.cancel()
        await asyncio.sleep(0)
        assert not staying.done()
        alarm.answer_pings()
