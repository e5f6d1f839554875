"""What is asked of the daemon as a whole: stop all work, empty the memory, read the settings."""

import asyncio
from collections.abc import Callable

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import ConfigurationError, UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Gate
from unified_llm.operations.jobs import Details, Job, Jobs, JobType
from unified_llm.operations.library import ALL, NO_MODEL
from unified_llm.scheduler.loop import SchedulerLoop

ALL_JOBS: str = "jobs"
SETTINGS: str = "settings"

ReloadOutcome = tuple[str, ...] | ConfigurationError
"""The sections that have changed and wait for a restart; or what is wrong with the file."""


def _nothing() -> None:
    """Before there is anybody to tell."""


class Reloads:
    """Asked for by doors, carried out by the daemon's life.

    on_asked: told of each; returns at once.
    A reload answers those who had asked when it began: for others the file may have changed since.
    """

    def __init__(self) -> None:
        self._asked: list[asyncio.Future[ReloadOutcome]] = []
        self.on_asked: Callable[[], None] = _nothing

    async def ask(self) -> tuple[str, ...]:
        """Wait for a reload that begins from now on. Raises ConfigurationError."""
        answer: asyncio.Future[ReloadOutcome] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self.on_asked()
        outcome = await answer
        if isinstance(outcome, ConfigurationError):
            raise outcome
        return outcome

    def begin(self) -> Callable[[ReloadOutcome], None]:
        """A reload begins; call what is returned with its outcome."""
        asked, self._asked = self._asked, []

        def end(outcome: ReloadOutcome) -> None:
            for answer in asked:
                if not answer.done():
                    answer.set_result(outcome)

        return end


class Administration:
    """unload_limit: the longest that emptying the memory may take. reloads: for who does them."""

    def __init__(
        self,
        gate: Gate,
        jobs: Jobs,
        scheduler: SchedulerLoop,
        *,
        unload_limit: Seconds,
    ) -> None:
        self._gate = gate
        self._jobs = jobs
        self._scheduler = scheduler
        self.reloads = Reloads()
        self._unload_limit = unload_limit

    def cancel_all(self, caller: Caller) -> int:
        """Ask every job to stop, whosever it is; how many there were. Raises NotPermitted."""
        with self._gate.open_entry(caller, Action.MANAGE_JOBS, ALL_JOBS):
            return self._jobs.cancel_all()

    def begin_flush(self, caller: Caller) -> Job:
        """Unload every model, after the answers it is giving. Raises NotPermitted, RateLimited."""
        with self._gate.open_entry(caller, Action.UNLOAD_MODEL, ALL, only_refusals=True):
            return self._jobs.begin(JobType.FLUSH, NO_MODEL, caller, self._flush)

    async def reload(self, caller: Caller) -> tuple[str, ...]:
        """Read the settings again; the sections that have changed and wait for a restart.

        Raises NotPermitted, and ConfigurationError if the file is wrong: then nothing has changed.
        """
        with self._gate.open_entry(caller, Action.RELOAD, SETTINGS):
            return await self.reloads.ask()

    async def _flush(self, job: Job) -> Details:
        with self._gate.open_entry(job.owner, Action.UNLOAD_MODEL, ALL):
            held = [status.id for status in self._scheduler.statuses() if status.state.has_worker]
            async with asyncio.TaskGroup() as group:
                unloads = [group.create_task(self._unload(job, model)) for model in held]
            for unload in unloads:
                if (error := unload.result()) is not None:
                    raise error
            return {"models": len(held)}

    async def _unload(self, job: Job, model: ModelId) -> UnifiedLlmError | None:
        """What went wrong, which shall not end the others."""
        try:
            await self._scheduler.unload(model, job.owner.principal, timeout=self._unload_limit)
        except UnifiedLlmError as error:
            return error
        return None
