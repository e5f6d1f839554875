"""Long work that somebody asked for, as an object one can look at, wait for and cancel.

Rule 1: a job ends exactly once, with a result, and stays visible for a minute after it, so that a
client which starts listening late does not miss the end; of one user's only the latest do, since
requests that fail at once are as cheap to send as a job is to keep.
Rule 2: this file does not know what the work is.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Final, NewType, Self

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import (
    Cancelled,
    InternalError,
    RateLimited,
    RequestTimedOut,
    UnifiedLlmError,
    UnknownObject,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.ports import Clock
from unified_llm.domain.units import Bytes, Instant, Seconds
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Gate
from unified_llm.operations.transfer import Transfer

_log = logging.getLogger(__name__)

JobId = NewType("JobId", int)
"""1 to 2^31 - 1, drawn at random: a guessable cookie was part of CVE-2025-67859 of TLP."""

KEEP_FINISHED: Final = Seconds(60)
MAX_KEPT_PER_UID: Final = 64
MAX_RUNNING_PER_UID: Final = 8
MAX_RUNNING_ROOT: Final = 4 * MAX_RUNNING_PER_UID

Details = Mapping[str, str | int | float]
Work = Callable[["Job"], Awaitable[Details]]


class JobType(StrEnum):
    """What a job does."""

    LOAD = "load"
    UNLOAD = "unload"
    FLUSH = "flush"
    SWITCH = "switch"
    SCAN = "scan"
    IMPORT = "import"
    REMOVE = "remove"
    VERIFY = "verify"
    GENERATE = "generate"


class JobState(StrEnum):
    """Where a job is. QUEUED: it waits for its turn."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FINISHED = "finished"


class JobResult(StrEnum):
    """How a job ended. TIMEOUT: a limit that was stated for it passed."""

    DONE = "done"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


def _nothing() -> None:
    pass


@dataclass(slots=True, eq=False)
class Job:
    """One piece of work. target: the model it is about; empty if it is about all.

    is_private: seen by its owner and root only, and announced to nobody; it is tied, too.
    is_tied: cancelled when the connection it was asked for on has left.
    started, started_at: by the monotonic clock, and in seconds since the epoch by the wall's.
    progress: 0 to 1; None if it can not be told.
    transfer: the bytes it has come through; None if it counts none, or has not begun to.
    expected_end: when it is through them, in seconds since the epoch; None while not known.
    details: what the finished work has to say. error: set unless result is done.
    """

    id: JobId
    type: JobType
    target: ModelId
    owner: Caller
    started: Instant
    started_at: float
    is_private: bool
    is_tied: bool = False
    state: JobState = JobState.RUNNING
    progress: float | None = None
    transfer: Transfer | None = None
    expected_end: float | None = None
    result: JobResult | None = None
    details: Details = field(default_factory=lambda: MappingProxyType({}))
    error: UnifiedLlmError | None = None
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_cancelable(self) -> bool:
        """Whether its work goes on, or waits for its turn, and nobody has asked it to stop."""
        return self.state in {JobState.QUEUED, JobState.RUNNING}


class Jobs(AbstractAsyncContextManager["Jobs"]):
    """All jobs. Leaving it cancels those that run.

    unix_time: the wall clock, in seconds since the epoch; for what is shown, never for limits.
    on_change is told of each job that begins or changes, on_forget of each that is not kept any
    longer; both return at once.
    """

    def __init__(self, clock: Clock, gate: Gate, unix_time: Callable[[], float]) -> None:
        self._clock = clock
        self._gate = gate
        self._unix_time = unix_time
        self._jobs: dict[JobId, Job] = {}
        self._group = asyncio.TaskGroup()
        self._tasks: dict[JobId, asyncio.Task[None]] = {}
        self._timers: dict[JobId, asyncio.TimerHandle] = {}
        self.on_change: Callable[[Job], None] = lambda job: None
        self.on_forget: Callable[[Job], None] = lambda job: None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for job in self._jobs.values():
            self._cancel(job)
        await self._group.__aexit__(kind, error, trace)
        for timer in self._timers.values():
            timer.cancel()

    def begin(
        self,
        type_: JobType,
        target: ModelId,
        owner: Caller,
        work: Work,
        *,
        is_private: bool = False,
        is_tied: bool = False,
        when_over: Callable[[], None] = _nothing,
    ) -> Job:
        """Start `work`, which is given the job and returns its details. Raises RateLimited.

        when_over: called once and in any case, also if the work never began.
        """
        running = sum(
            job.owner.uid == owner.uid and job.state is not JobState.FINISHED
            for job in self._jobs.values()
        )
        limit = MAX_RUNNING_ROOT if owner.uid == 0 else MAX_RUNNING_PER_UID
        if running >= limit:
            when_over()
            raise RateLimited(
                f"uid {owner.uid} has {running} jobs running; {limit} is the most.",
                hint="Wait for one to end, or cancel one.",
            )
        moment, date = self._clock.now(), self._unix_time()
        is_tied = is_tied or is_private
        job = Job(self._draw_id(), type_, target, owner, moment, date, is_private, is_tied)
        self._jobs[job.id] = job
        self.on_change(job)
        task = self._group.create_task(self._run(job, work), name=f"job {job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: when_over())
        task.add_done_callback(lambda _: self._finish(job))
        return job

    def visible_to(self, caller: Caller) -> tuple[Job, ...]:
        """The jobs `caller` may know of: its own, and others' that are not private."""
        return tuple(job for job in self._jobs.values() if self._may_see(job, caller))

    def get(self, job: JobId, caller: Caller) -> Job:
        """The job of that id. Raises UnknownObject, also if the caller may not know of it."""
        found = self._jobs.get(job)
        if found is None or not self._may_see(found, caller):
            raise UnknownObject(
                f"There is no job {job}.", hint="Finished jobs are kept for a minute."
            )
        return found

    def cancel(self, job: Job, caller: Caller) -> None:
        """Ask the work to stop; its end is still waited for. Raises NotPermitted.

        Cancelling one's own job needs no right; cancelling a finished one does nothing.
        """
        if caller.uid == job.owner.uid:
            self._cancel(job)
            return
        with self._gate.open_entry(caller, Action.MANAGE_JOBS, f"job {job.id}"):
            self._cancel(job)

    def cancel_all(self) -> int:
        """Ask every job that is under way to stop; how many there were."""
        stopping = [job for job in self._jobs.values() if job.is_cancelable]
        for job in stopping:
            self._cancel(job)
        return len(stopping)

    def owner_vanished(self, connection: str) -> None:
        """End what is tied to it. Loads and unloads go on, unless they were asked not to."""
        for job in self._jobs.values():
            if job.is_tied and job.owner.connection == connection:
                self._cancel(job)

    @asynccontextmanager
    async def open_turn(self, job: Job, line: asyncio.Lock) -> AsyncIterator[None]:
        """Hold `line`, for the work of `job`; as long as somebody else does, the job is queued."""
        # Also when the lock is free: it may have been given up to one that waits.
        self.report_waiting(job, is_waiting=True)
        async with line:
            self.report_waiting(job, is_waiting=False)
            yield

    def report_waiting(self, job: Job, *, is_waiting: bool) -> None:
        """The work waits for its turn, or does not any more."""
        state = JobState.QUEUED if is_waiting else JobState.RUNNING
        if job.is_cancelable and job.state is not state:
            job.state = state
            self.on_change(job)

    def report_progress(self, job: Job, fraction: float | None) -> None:
        """Set how far a running job has come."""
        if job.progress != fraction and job.state is not JobState.FINISHED:
            job.progress = fraction
            self.on_change(job)

    def report_bytes(self, job: Job, done: Bytes, total: Bytes) -> None:
        """Count what a running job has come through; whole percents of it are told of."""
        if job.state is JobState.FINISHED:
            return
        now = self._clock.now()
        if job.transfer is None:
            job.transfer = Transfer(total, done, now)
        job.transfer.see(done, now)
        share, remaining = job.transfer.share, job.transfer.remaining
        job.expected_end = None if remaining is None else self._unix_time() + remaining
        self.report_progress(job, None if share is None else round(share, 2))

    def _cancel(self, job: Job) -> None:
        if job.is_cancelable:
            job.state = JobState.CANCELLING
            self.on_change(job)
            self._tasks[job.id].cancel()

    async def _run(self, job: Job, work: Work) -> None:
        try:
            job.details = await work(job)
            job.result = JobResult.DONE
        except UnifiedLlmError as error:
            job.result = _result_of(error)
            job.error = error
        except Exception:  # noqa: BLE001  a bug in one job must not end the others
            job.result = JobResult.FAILED
            job.error = InternalError(secrets.token_hex(4))
            _log.exception("incident %s in job %d", job.error.incident, job.id)

    def _finish(self, job: Job) -> None:
        if job.result is None:
            job.result = JobResult.CANCELLED
            job.error = Cancelled("The job was cancelled.")
        job.state = JobState.FINISHED
        job.finished.set()
        del self._tasks[job.id]
        self.on_change(job)
        loop = asyncio.get_running_loop()
        self._timers[job.id] = loop.call_later(KEEP_FINISHED, self._forget, job)
        # Timers are in the order of the jobs' ends.
        ended = [self._jobs[id_] for id_ in self._timers]
        kept = [other for other in ended if other.owner.uid == job.owner.uid]
        for oldest in kept[:-MAX_KEPT_PER_UID]:
            self._forget(oldest)

    def _forget(self, job: Job) -> None:
        del self._jobs[job.id]
        self._timers.pop(job.id).cancel()
        self.on_forget(job)

    def _may_see(self, job: Job, caller: Caller) -> bool:
        return not job.is_private or caller.uid in (0, job.owner.uid)

    def _draw_id(self) -> JobId:
        while (drawn := JobId(1 + secrets.randbelow(2**31 - 1))) in self._jobs:
            pass
        return drawn


def _result_of(error: UnifiedLlmError) -> JobResult:
    match error:
        case Cancelled():
            return JobResult.CANCELLED
        case RequestTimedOut():
            return JobResult.TIMEOUT
        case _:
            return JobResult.FAILED
