"""operations.models."""

import asyncio

from tests.fakes.house import ADMIN, TINY, open_house
from tests.fakes.timers import settle
from unified_llm.domain.errors import RequestTimedOut
from unified_llm.operations.jobs import JobResult


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
