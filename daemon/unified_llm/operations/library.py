"""Which model files there are: looking again, taking one in, removing one.

Files are imported one after the other, and verified one after the other, so that several of them
do not share the disk from which models are loaded.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import InvalidRequest, ModelInUse
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.ports import ByteCount
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.downloads.local_import import SourceFile
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Gate
from unified_llm.operations.jobs import Details, Job, Jobs, JobType
from unified_llm.operations.models import Models
from unified_llm.scheduler.loop import SchedulerLoop

# The audit's object, where there is no single model.
ALL: str = "models"
NO_MODEL = ModelId("")

_OUT_OF_MEMORY = frozenset({ModelState.ABSENT, ModelState.AVAILABLE, ModelState.FAILED})


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a look at the disk has found; problems are those that health tells of."""

    models: int
    added: int
    removed: int
    problems: int


@dataclass(frozen=True, slots=True)
class Shelved:
    """A model that was taken in. digest: SHA-256 of its file, in hexadecimal."""

    model: ModelId
    size_bytes: Bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The digest of a file as it is, and as it was when it was first read; None if it never was."""

    digest: str
    remembered: str | None

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.remembered is None:
            return "first"
        return "same" if self.digest == self.remembered else "different"


class Shelf(Protocol):
    """Where model files are kept. One is added at a time."""

    async def rescan(self) -> ScanReport:
        """Look at the disk again."""

    async def check(self, source: SourceFile, name: ModelId | None) -> ModelId:
        """The id under which the model in `source` would be taken in.

        name: as asked for; None takes it from the file. Raises InvalidRequest.
        """

    async def add(self, source: SourceFile, model: ModelId, on_bytes: ByteCount) -> Shelved:
        """Take it in under that id; on_bytes: told in the event loop.

        Raises InvalidRequest, DiskFull, StoreUnavailable.
        """

    async def verify(self, spec: ModelSpec, on_bytes: ByteCount) -> Verified:
        """Read its file through; on_bytes as in `add`. Raises InvalidRequest, StoreUnavailable."""

    async def remove(self, spec: ModelSpec) -> None:
        """Remove its file. Raises InvalidRequest, StoreUnavailable."""


class Library:
    """What may be asked about the files; each is a job, or waits."""

    def __init__(
        self,
        gate: Gate,
        jobs: Jobs,
        models: Models,
        scheduler: SchedulerLoop,
        shelf: Shelf,
        *,
        unload_limit: Seconds,
    ) -> None:
        self._gate = gate
        self._jobs = jobs
        self._models = models
        self._scheduler = scheduler
        self._shelf = shelf
        self._unload_limit = unload_limit
        self._importing = asyncio.Lock()
        self._verifying = asyncio.Lock()

    async def scan(self, caller: Caller) -> ScanReport:
        """Look for models again, and wait for it. Raises NotPermitted."""
        with self._gate.open_entry(caller, Action.SCAN_MODELS, ALL):
            return await self._shelf.rescan()

    def begin_scan(self, caller: Caller) -> Job:
        """Look for models again in the background. Raises NotPermitted, RateLimited."""
        with self._gate.open_entry(caller, Action.SCAN_MODELS, ALL, only_refusals=True):
            return self._jobs.begin(JobType.SCAN, NO_MODEL, caller, self._scan)

    async def begin_import(self, caller: Caller, source: SourceFile, name: ModelId | None) -> Job:
        """Check the file and copy it into the model directory in the background.

        `source` stays the caller's. Raises NotPermitted, InvalidRequest, RateLimited.
        """
        target = ALL if name is None else name
        with self._gate.open_entry(caller, Action.IMPORT_MODEL, target, only_refusals=True):
            model = await self._shelf.check(source, name)
            own = source.duplicate()

            async def work(job: Job) -> Details:
                return await self._import(job, own)

            return self._jobs.begin(JobType.IMPORT, model, caller, work, when_over=own.close)

    def begin_remove(self, caller: Caller, model: ModelId, *, force: bool) -> Job:
        """Remove the file of a model that the scan has found, in the background.

        force: unload it first if it is loaded. Raises UnknownModel, NotPermitted, ModelInUse,
        InvalidRequest for a model of the settings, RateLimited.
        """
        with self._gate.open_entry(caller, Action.REMOVE_MODEL, model, only_refusals=True):
            spec = self._models.spec(model)
            if spec.source != "scan":
                raise InvalidRequest(
                    f"{model} stands in the settings, with a file of its owner's.",
                    hint="Remove it there.",
                    parameter="model",
                )
            if not force:
                self._ensure_not_loaded(model)

            async def work(job: Job) -> Details:
                return await self._remove(job, spec)

            return self._jobs.begin(JobType.REMOVE, model, caller, work)

    def begin_verify(self, caller: Caller, model: ModelId) -> Job:
        """Read the file of a model through, in the background, and compare it with what it was.

        Raises UnknownModel, NotPermitted, RateLimited, InvalidRequest for one of a provider.
        """
        with self._gate.open_entry(caller, Action.SCAN_MODELS, model, only_refusals=True):
            spec = self._models.spec(model)

            async def work(job: Job) -> Details:
                return await self._verify(job, spec)

            return self._jobs.begin(JobType.VERIFY, model, caller, work)

    async def _scan(self, job: Job) -> Details:
        report = await self.scan(job.owner)
        return {
            "models": report.models,
            "added": report.added,
            "removed": report.removed,
            "problems": report.problems,
        }

    async def _import(self, job: Job, source: SourceFile) -> Details:
        with self._gate.open_entry(job.owner, Action.IMPORT_MODEL, job.target):
            async with self._jobs.open_turn(job, self._importing):
                shelved = await self._shelf.add(
                    source, job.target, partial(self._jobs.report_bytes, job)
                )
            return {
                "model": shelved.model,
                "size_bytes": shelved.size_bytes,
                "sha256": shelved.digest,
            }

    async def _verify(self, job: Job, spec: ModelSpec) -> Details:
        with self._gate.open_entry(job.owner, Action.SCAN_MODELS, spec.id):
            async with self._jobs.open_turn(job, self._verifying):
                verified = await self._shelf.verify(spec, partial(self._jobs.report_bytes, job))
            return {"sha256": verified.digest, "verdict": verified.verdict}

    async def _remove(self, job: Job, spec: ModelSpec) -> Details:
        with self._gate.open_entry(job.owner, Action.REMOVE_MODEL, spec.id):
            if self._scheduler.status(spec.id).state not in _OUT_OF_MEMORY:
                await self._scheduler.unload(
                    spec.id, job.owner.principal, timeout=self._unload_limit
                )
            await self._shelf.remove(spec)
            return {"size_bytes": spec.size_bytes}

    def _ensure_not_loaded(self, model: ModelId) -> None:
        state = self._scheduler.status(model).state
        if state not in _OUT_OF_MEMORY:
            raise ModelInUse(f"{model} is {state}.", hint="Unload it first, or force the removal.")
