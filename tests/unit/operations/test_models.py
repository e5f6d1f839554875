"""operations.models."""

import asyncio

from tests.fakes.house import ADMIN, TINY, open_house
from tests.fakes.timers import settle
from unified_llm.domain.errors import RequestTimedOut
from unified_llm.domain.units import Seconds
from unified_llm.operations.jobs import JobResult, JobState


async def test_a_load_that_is_not_through_within_its_limit_ends_with_a_timeout() -> None:
    async with open_house(obedient=False) as house, asyncio.TaskGroup() as group:
        scheduling = group.create_task(house.scheduler.run())
        job = house.models.begin_load(ADMIN, TINY)
        await settle()
        house.clock.advance(59)
        await settle()
        assert not job.finished.is_set()
        house.clock.advance(1)
        async with asyncio.timeout(20):
            await job.finished.wait()
        assert job.result is JobResult.TIMEOUT
        assert isinstance(job.error, RequestTimedOut)
        scheduling.cancel()


async def test_a_load_is_queued_as_long_as_its_model_waits() -> None:
    async with open_house(obedient=False) as house:
        house.scheduler.begin_suspension(Seconds(60))
        first, second = (house.models.begin_load(ADMIN, TINY) for _ in range(2))
        await settle()
        assert (first.state, second.state) == (JobState.QUEUED, JobState.QUEUED)
        house.scheduler.resume()
        assert (first.state, second.state) == (JobState.RUNNING, JobState.RUNNING)
        house.workers.finish_load(TINY)
        async with asyncio.timeout(20):
            await first.finished.wait()
            await second.finished.wait()
        assert (first.result, second.result) == (JobResult.DONE, JobResult.DONE)
