"""Jobs end once, can be seen by whom they should, and are kept a minute."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.clock import FakeClock
from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.errors import (
    Cancelled,
    NotPermitted,
    RateLimited,
    RequestTimedOut,
    UnifiedLlmError,
    UnknownObject,
    WorkerDied,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes
from unified_llm.guard.audit import Audit
from unified_llm.guard.permissions import Permissions
from unified_llm.operations import jobs as module
from unified_llm.operations.gate import Gate
from unified_llm.operations.jobs import Details, Job, JobResult, Jobs, JobState, JobType

TINY = ModelId("tiny")


def caller(uid: int) -> Caller:
    return Caller(uid=uid, gids=frozenset(), pid=None, door=Door.DBUS, connection=f":1.{uid}")


ROOT, ALICE, BOB = caller(0), caller(1000), caller(1001)


@asynccontextmanager
async def open_jobs(clock: FakeClock | None = None) -> AsyncIterator[Jobs]:
    permissions = Permissions(daemon_uid=990, user_gid=None, admin_gid=None)
    clock = clock or FakeClock(5)
    with Audit([]) as audit:
        async with Jobs(clock, Gate(permissions, audit, clock), lambda: 1_700_000_000.5) as jobs:
            yield jobs


async def succeed(job: Job) -> Details:
    return {"memory_bytes": 7}


async def crash(job: Job) -> Details:
    raise ZeroDivisionError("secret text")


async def last_for_ever(job: Job) -> Details:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_job_ends_with_its_details() -> None:
    async with open_jobs() as jobs:
        job = jobs.begin(JobType.LOAD, TINY, ALICE, succeed)
        assert job.state is JobState.RUNNING
        await job.finished.wait()
    assert (job.state, job.result, job.details) == (
        JobState.FINISHED,
        JobResult.DONE,
        {"memory_bytes": 7},
    )


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (WorkerDied("gone"), JobResult.FAILED),
        (RequestTimedOut("late"), JobResult.TIMEOUT),
        (Cancelled("no more"), JobResult.CANCELLED),
    ],
    ids=lambda found: type(found).__name__,
)
async def test_what_ended_the_work_is_kept_and_gives_the_result(
    error: UnifiedLlmError, result: JobResult
) -> None:
    async def fail(job: Job) -> Details:
        raise error

    async with open_jobs() as jobs:
        job = jobs.begin(JobType.LOAD, TINY, ALICE, fail)
        await job.finished.wait()
    assert (job.result, job.error) == (result, error)


async def test_a_bug_in_one_job_ends_neither_the_others_nor_the_daemon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_jobs() as jobs:
        other = jobs.begin(JobType.LOAD, TINY, BOB, last_for_ever)
        job = jobs.begin(JobType.LOAD, TINY, ALICE, crash)
        await job.finished.wait()
        assert other.state is JobState.RUNNING
    assert job.error is not None
    assert job.error.code == "internal"
    assert "secret" not in str(job.error)
    assert "ZeroDivisionError" in caplog.text


async def test_cancelling_ends_the_work() -> None:
    async with open_jobs() as jobs:
        job = jobs.begin(JobType.LOAD, TINY, ALICE, last_for_ever)
        jobs.cancel(job, ALICE)
        await job.finished.wait()
        jobs.cancel(job, ALICE)
    assert job.result is JobResult.CANCELLED


async def test_a_job_cancelled_before_its_first_step_still_ends_once() -> None:
    seen: list[JobState] = []
    async with open_jobs() as jobs:
        jobs.on_change = lambda job: seen.append(job.state)
        job = jobs.begin(JobType.LOAD, TINY, ALICE, succeed)
        jobs.cancel(job, ALICE)
        await job.finished.wait()
    assert seen == [JobState.RUNNING, JobState.CANCELLING, JobState.FINISHED]


async def test_jobs_that_take_turns_are_queued_until_theirs_has_come() -> None:
    line, changes = asyncio.Lock(), list[tuple[str, JobState]]()
    async with open_jobs() as jobs:
        jobs.on_change = lambda job: changes.append((job.target, job.state))

        async def work(job: Job) -> Details:
            async with jobs.open_turn(job, line):
                return await last_for_ever(job)

        begun = [jobs.begin(JobType.IMPORT, ModelId(name), ALICE, work) for name in "abc"]
        first, second, third = begun

        def states() -> list[str]:
            return [job.state.value for job in begun]

        await asyncio.sleep(0)
        assert states() == ["running", "queued", "queued"]
        jobs.cancel(second, ALICE)
        await second.finished.wait()
        assert states() == ["running", "finished", "queued"]
        jobs.cancel(first, ALICE)
        await first.finished.wait()
        await asyncio.sleep(0)
        assert states() == ["finished", "finished", "running"]
        assert jobs.cancel_all() == 1
        await third.finished.wait()
    assert [state for name, state in changes if name == "c"] == [
        JobState.RUNNING,
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.CANCELLING,
        JobState.FINISHED,
    ]


async def test_what_is_queued_counts_among_the_jobs_of_its_user_and_is_stopped_with_the_rest() -> (
    None
):
    async with open_jobs() as jobs:
        begun = [
            jobs.begin(JobType.LOAD, TINY, ALICE, last_for_ever)
            for _ in range(module.MAX_RUNNING_PER_UID)
        ]
        for job in begun:
            jobs.report_waiting(job, is_waiting=True)
        with pytest.raises(RateLimited):
            jobs.begin(JobType.LOAD, TINY, ALICE, succeed)
        assert jobs.cancel_all() == len(begun)
        jobs.report_waiting(begun[0], is_waiting=False)
        assert begun[0].state is JobState.CANCELLING


async def test_only_the_owner_and_managers_may_cancel() -> None:
    async with open_jobs() as jobs:
        job = jobs.begin(JobType.LOAD, TINY, ALICE, last_for_ever)
        with pytest.raises(NotPermitted):
            jobs.cancel(job, BOB)
        assert job.state is JobState.RUNNING
        jobs.cancel(job, ROOT)
        await job.finished.wait()


async def test_a_private_job_exists_for_its_owner_and_root_only() -> None:
    async with open_jobs() as jobs:
        job = jobs.begin(JobType.GENERATE, TINY, ALICE, last_for_ever, is_private=True)
        assert jobs.get(job.id, ALICE) is jobs.get(job.id, ROOT) is job
        assert jobs.visible_to(BOB) == ()
        with pytest.raises(UnknownObject):
            jobs.get(job.id, BOB)


async def test_what_is_private_dies_with_its_owner_and_loads_go_on() -> None:
    async with open_jobs() as jobs:
        private = jobs.begin(JobType.GENERATE, TINY, ALICE, last_for_ever, is_private=True)
        load = jobs.begin(JobType.LOAD, TINY, ALICE, last_for_ever)
        tied = jobs.begin(JobType.LOAD, TINY, ALICE, last_for_ever, is_tied=True)
        others = jobs.begin(JobType.LOAD, TINY, BOB, last_for_ever, is_tied=True)
        jobs.owner_vanished(ALICE.connection)
        await private.finished.wait()
        await tied.finished.wait()
        assert (private.result, tied.result) == (JobResult.CANCELLED, JobResult.CANCELLED)
        assert (load.state, others.state) == (JobState.RUNNING, JobState.RUNNING)


async def test_one_user_has_a_quota_of_its_own() -> None:
    async with open_jobs() as jobs:
        for _ in range(module.MAX_RUNNING_PER_UID):
            jobs.begin(JobType.LOAD, TINY, ALICE, last_for_ever)
        with pytest.raises(RateLimited, match="uid 1000 has 8 jobs running; 8 is the most"):
            jobs.begin(JobType.LOAD, TINY, ALICE, succeed)
        jobs.begin(JobType.LOAD, TINY, BOB, succeed)


async def test_a_finished_job_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_FINISHED", 0)
    forgotten = asyncio.Event()
    async with open_jobs() as jobs:
        jobs.on_forget = lambda job: forgotten.set()
        job = jobs.begin(JobType.LOAD, TINY, ALICE, succeed)
        await forgotten.wait()
        with pytest.raises(UnknownObject):
            jobs.get(job.id, ALICE)


async def test_of_one_users_finished_jobs_only_the_latest_are_kept() -> None:
    forgotten: list[Job] = []
    async with open_jobs() as jobs:
        jobs.on_forget = forgotten.append
        others = jobs.begin(JobType.LOAD, TINY, BOB, succeed)
        begun = [
            await finished(jobs.begin(JobType.LOAD, TINY, ALICE, succeed))
            for _ in range(module.MAX_KEPT_PER_UID + 2)
        ]
        assert forgotten == begun[:2]
        assert jobs.visible_to(ROOT) == (others, *begun[2:])


async def finished(job: Job) -> Job:
    await job.finished.wait()
    return job


async def test_closing_cancels_what_runs() -> None:
    async with open_jobs() as jobs:
        job = jobs.begin(JobType.LOAD, TINY, ALICE, last_for_ever)
        await asyncio.sleep(0)
    assert job.result is JobResult.CANCELLED


async def test_bytes_are_told_of_by_the_percent_with_the_rate_they_came_at() -> None:
    clock, told = FakeClock(5), list[tuple[float | None, float | None]]()
    async with open_jobs(clock) as jobs:
        job = jobs.begin(JobType.VERIFY, TINY, ALICE, last_for_ever)
        jobs.on_change = lambda job: told.append((job.progress, job.expected_end))
        for done in range(0, 1001, 2):
            jobs.report_bytes(job, Bytes(done), Bytes(1000))
            clock.advance(0.25)
        jobs.cancel(job, ALICE)
        await job.finished.wait()
        jobs.report_bytes(job, Bytes(7), Bytes(1000))
    assert job.started_at == 1_700_000_000.5
    assert job.transfer is not None
    assert (job.transfer.done, job.transfer.rate) == (1000, 8)
    # The first comes before anything is measured, the last two tell of the end.
    assert [progress for progress, _ in told[:-2]] == [percent / 100 for percent in range(101)]
    assert told[0] == (0.0, None)
    assert told[50] == (0.5, 1_700_000_000.5 + 504 / 8)
