"""Stopping all work, emptying the memory, reading the settings again."""

import asyncio

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.house import ADMIN, BIG, ROOT, TINY, USER, open_house
from unified_llm.domain.errors import ConfigurationError, NotPermitted, Problem
from unified_llm.domain.lifecycle import ModelState
from unified_llm.operations.administration import Reloads
from unified_llm.operations.jobs import Details, Job, JobResult, JobType

BROKEN = ConfigurationError("config.yaml", (Problem("log", 3, "No such level."),))


async def wait_for_ever(job: Job) -> Details:
    await asyncio.Event().wait()
    return {}


async def test_all_jobs_are_asked_to_stop_private_ones_too() -> None:
    async with open_house() as house:
        mine = house.jobs.begin(JobType.LOAD, TINY, ROOT, wait_for_ever)
        private = house.jobs.begin(JobType.GENERATE, TINY, USER, wait_for_ever, is_private=True)
        assert house.administration.cancel_all(ADMIN) == 2
        for job in (mine, private):
            await job.finished.wait()
            assert job.result is JobResult.CANCELLED
        assert house.administration.cancel_all(ADMIN) == 0
    records = [record["UNIFIED_LLM_ACTION"] for record in house.trail.records]
    assert records == ["manage-jobs", "manage-jobs"]


async def test_a_flush_unloads_every_model_and_says_how_many() -> None:
    async with open_house(backend=FakeBackend([])) as house:
        for model in (TINY, BIG):
            job = house.models.begin_load(ROOT, model)
            await job.finished.wait()
        flush = house.administration.begin_flush(ADMIN)
        await flush.finished.wait()
        assert (flush.result, flush.details) == (JobResult.DONE, {"models": 2})
        assert {status.state for status in house.scheduler.statuses()} == {ModelState.AVAILABLE}
        again = house.administration.begin_flush(ADMIN)
        await again.finished.wait()
        assert again.details == {"models": 0}


async def test_all_models_are_told_at_once_and_the_last_one_is_waited_for() -> None:
    async with open_house(obedient=False) as house:
        for model in (TINY, BIG):
            load = house.models.begin_load(ROOT, model)
            await asyncio.sleep(0)
            house.workers.finish_load(model)
            await load.finished.wait()
        flush = house.administration.begin_flush(ROOT)
        while len(house.workers.stopped) < 2:
            await asyncio.sleep(0)
        house.workers.finish_stop(TINY)
        await asyncio.sleep(0)
        assert flush.result is None
        house.workers.finish_stop(BIG)
        await flush.finished.wait()
        assert flush.result is JobResult.DONE


async def test_users_may_do_nothing_of_it() -> None:
    async with open_house() as house:
        with pytest.raises(NotPermitted):
            house.administration.cancel_all(USER)
        with pytest.raises(NotPermitted):
            house.administration.begin_flush(USER)
        with pytest.raises(NotPermitted):
            await house.administration.reload(USER)


async def test_a_reload_answers_those_who_asked_before_it_began() -> None:
    reloads, asked = Reloads(), 0

    def count() -> None:
        nonlocal asked
        asked += 1

    reloads.on_asked = count
    async with asyncio.TaskGroup() as group:
        first = group.create_task(reloads.ask())
        await asyncio.sleep(0)
        end = reloads.begin()
        late = group.create_task(reloads.ask())
        await asyncio.sleep(0)
        end(("socket",))
        assert await first == ("socket",)
        assert not late.done()
        reloads.begin()(())
        assert await late == ()
    assert asked == 2


async def test_a_file_that_is_wrong_is_told_to_whoever_asked() -> None:
    async with open_house() as house:
        house.administration.reloads.on_asked = lambda: house.administration.reloads.begin()(BROKEN)
        with pytest.raises(ConfigurationError):
            await house.administration.reload(ROOT)
    assert house.trail.records[-1]["UNIFIED_LLM_RESULT"] == "failed"


async def test_who_leaves_while_a_reload_runs_is_forgotten() -> None:
    reloads = Reloads()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(reloads.ask())
        await asyncio.sleep(0)
        end = reloads.begin()
        asking.cancel()
        await asyncio.wait([asking])
        end(())
