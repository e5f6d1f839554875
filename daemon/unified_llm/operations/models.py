"""Which models there are, and bringing them in and out of memory."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from unified_llm.domain.arrival import Arrival
from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import InvalidRequest, UnknownModel
from unified_llm.domain.events import (
    CatalogueChanged,
    Event,
    FilesChanged,
    ModelChanged,
    ModelStatus,
)
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.measurements import DryRun
from unified_llm.domain.models import Adapter, ModelId, ModelSpec, adapted_id, parse_model_id
from unified_llm.domain.placement import Placement
from unified_llm.domain.profile import Purpose
from unified_llm.domain.providers import RemoteModel
from unified_llm.domain.units import Seconds
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Gate
from unified_llm.operations.jobs import Details, Job, Jobs, JobType
from unified_llm.operations.plans import (
    PlanQuestion,
    PlanReport,
    answer_plan,
    placement_of,
    with_dry_run,
)
from unified_llm.operations.watch import Watch
from unified_llm.scheduler.loop import SchedulerLoop

_MAKES: Final = {
    Purpose.CHAT: "answers in text",
    Purpose.EMBEDDING: "makes vectors of texts",
    Purpose.RANKING: "judges documents by a query",
    Purpose.TOKENS: "makes a vector of each token, and its file does not say how they are pooled",
}
Rehearse = Callable[[ModelSpec, Placement], Awaitable[DryRun]]
"""What the engine says a load would take; fleet.dry_runs does."""


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model as a caller may see it.

    last_used: when it last ended a request, in seconds since the epoch; None if it has served none
        since it is in the catalogue, and for a provider's, which is not counted.
    adapter: the one of its adapters that was named with it.
    """

    spec: ModelSpec | RemoteModel
    status: ModelStatus
    last_used: float | None = None
    adapter: Adapter | None = None


class Models:
    """The catalogue in force, and what may be asked of its models.

    unix_time: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        gate: Gate,
        scheduler: SchedulerLoop,
        jobs: Jobs,
        watch: Watch,
        *,
        load_limit: Seconds,
        rehearse: Rehearse,
        unix_time: Callable[[], float],
    ) -> None:
        self._gate = gate
        self._scheduler = scheduler
        self._jobs = jobs
        self._watch = watch
        self._load_limit = load_limit
        self._rehearse = rehearse
        self._unix_time = unix_time
        self._last_used: dict[ModelId, float] = {}
        scheduler.on_served = self._on_served
        self._specs: Mapping[ModelId, ModelSpec] = {}
        self._adapted: Mapping[ModelId, tuple[ModelSpec, Adapter]] = {}
        self._remote: Mapping[ModelId, RemoteModel] = {}

    def replace_catalogue(self, specs: Mapping[ModelId, ModelSpec]) -> None:
        """Take `specs` as all the models there are from now on. Called by the app only."""
        before, self._specs = self._specs, dict(sorted(specs.items()))
        self._adapted = {
            adapted_id(spec.id, each.name): (spec, each)
            for spec in self._specs.values()
            for each in spec.adapters
        }
        self._scheduler.replace_catalogue(self._specs)
        added, removed = self._specs.keys() - before.keys(), before.keys() - self._specs.keys()
        if added or removed:
            self._watch(CatalogueChanged(frozenset(added), frozenset(removed)))
        for model in removed & self._last_used.keys():
            del self._last_used[model]
        common = before.keys() & self._specs.keys()
        changed = {model for model in common if _file(before[model]) != _file(self._specs[model])}
        if changed:
            self._watch(FilesChanged(frozenset(changed)))

    def replace_remote(self, models: Mapping[ModelId, RemoteModel]) -> None:
        """Take `models` as all that providers have from now on. Called by the app only.

        Their ids begin with the provider's name and a slash, which no id of this machine does.
        """
        before, self._remote = self._remote, dict(sorted(models.items()))
        added, removed = self._remote.keys() - before.keys(), before.keys() - self._remote.keys()
        if added or removed:
            self._watch(CatalogueChanged(frozenset(added), frozenset(removed)))

    def spec(self, model: ModelId) -> ModelSpec:
        """As `find`, for what can be done only on this machine. Raises InvalidRequest too."""
        found = self.find(model)
        if isinstance(found, RemoteModel):
            raise InvalidRequest(
                f"{model} is a model of provider {found.provider}; it is not run here.",
                hint="It can be asked at any time; there is nothing to load.",
                parameter="model",
            )
        return found

    def spec_for(self, model: ModelId, purpose: Purpose) -> ModelSpec:
        """As `spec`, for a request of that kind. Raises InvalidRequest if the model is of another.

        A model with a defect passes: what is wrong with it says more than this.
        """
        spec = self.spec(model)
        ensure_is_for(spec, purpose)
        return spec

    def find(self, model: ModelId) -> ModelSpec | RemoteModel:
        """What is known of `model`, a name no door has looked at.

        So that a refusal is recorded, whatever the name. Raises InvalidRequest if it can be no
        model's name, else UnknownModel, naming the nearest known id.
        """
        found = self._specs.get(model) or self._remote.get(model)
        if found is None:
            parse_model_id(model)
            raise self._unknown(model)
        return found

    def _unknown(self, model: ModelId) -> InvalidRequest | UnknownModel:
        base, _, name = model.rpartition(":")
        owner = self._specs.get(ModelId(base))
        if owner is None or not owner.adapters:
            near = difflib.get_close_matches(
                model, (*self._specs, *self._adapted, *self._remote), n=1
            )
            return UnknownModel(
                f"There is no model {model!r}.",
                hint=f"Did you mean {near[0]!r}?" if near else "`models list` shows what there is.",
            )
        if model in self._adapted:
            return InvalidRequest(
                f"{model} is an adapter of {base}, and comes and goes with it.",
                hint=f"Name {base}.",
                parameter="model",
            )
        return InvalidRequest(
            f"{base} has no adapter {name!r}.",
            hint=f"It has {', '.join(each.name for each in owner.adapters)}.",
            parameter="model",
        )

    def is_known(self, model: ModelId) -> bool:
        """Whether there is a model of that id on this machine, or an adapter of one."""
        return model in self._specs or model in self._adapted

    def may_be_known(self, model: ModelId) -> bool:
        """As `is_known`, also of providers, which may not have told all they have yet."""
        return self.is_known(model) or "/" in model

    def sound_ids(self) -> tuple[ModelId, ...]:
        """The models of this machine that nothing is wrong with; the most important first."""
        sound = [spec for spec in self._specs.values() if spec.defect is None]
        return tuple(spec.id for spec in sorted(sound, key=lambda spec: -spec.priority))

    def look(self, model: ModelId) -> ModelView:
        """A model as it is now, for rooms that have asked the gate. Raises as `find`.

        `model` may name an adapter with it.
        """
        spec, adapter = self._adapted.get(model, (None, None))
        if spec is None or model in self._specs:
            return self._view(self.find(model))
        return replace(self._view(spec), adapter=adapter)

    def forecast(self, model: ModelId) -> Arrival:
        """What it would take to have a model of this machine serve. Raises UnknownModel."""
        return self._scheduler.forecast(model)

    def list(self, caller: Caller) -> tuple[ModelView, ...]:
        """All models, those of this machine first, each by id."""
        with self._gate.open_entry(caller, Action.READ, "models"):
            here = [self._view(spec) for spec in self._specs.values()]
            return (*here, *(self._view(model) for model in self._remote.values()))

    def get(self, caller: Caller, model: ModelId) -> ModelView:
        """One model, maybe with one of its adapters. Raises UnknownModel, InvalidRequest."""
        with self._gate.open_entry(caller, Action.READ, model):
            return self.look(model)

    async def plan(self, caller: Caller, model: ModelId, question: PlanQuestion) -> PlanReport:
        """How `model` would be run and laid out, without loading it.

        Raises UnknownModel, InvalidRequest, NoRoom, and ModelFailedToLoad for a defective one; for
        a dry run also QueueFull, GpuUnusable.
        """
        with self._gate.open_entry(caller, Action.READ, model):
            spec = self.spec(model)
            free, order = await self._scheduler.memory_free(), self._scheduler.sacrifices
            # Up to a second of arithmetic, which must not hold up the streams.
            report = await asyncio.to_thread(answer_plan, spec, question, free, order)
            if not question.is_rehearsed:
                return report
            return with_dry_run(report, await self._rehearse(spec, placement_of(spec, report)))

    def begin_load(self, caller: Caller, model: ModelId, *, is_tied: bool = False) -> Job:
        """Load `model` in the background. Raises UnknownModel, NotPermitted, RateLimited.

        is_tied: stop waiting for it when the caller's connection has left.

        A model whose worker failed too often is given a new chance. Loading a loaded model is a
        job that is done at once.
        """
        with self._gate.open_entry(caller, Action.LOAD_MODEL, model, only_refusals=True):
            self.spec(model)
            return self._jobs.begin(JobType.LOAD, model, caller, self._load, is_tied=is_tied)

    def begin_unload(self, caller: Caller, model: ModelId) -> Job:
        """Unload `model` in the background, after the answers it is giving.

        Raises UnknownModel, NotPermitted, RateLimited. Unloading a model that is not loaded is a
        job that is done at once.
        """
        with self._gate.open_entry(caller, Action.UNLOAD_MODEL, model, only_refusals=True):
            self.spec(model)
            return self._jobs.begin(JobType.UNLOAD, model, caller, self._unload)

    def begin_switch(self, caller: Caller, leaving: ModelId, arriving: ModelId) -> Job:
        """Load `arriving` and have `leaving` go once its requests are answered, in the background.

        It is a load that says who makes room for it, and takes the same right.
        Raises UnknownModel, NotPermitted, RateLimited, and InvalidRequest if `leaving` is pinned.
        """
        with self._gate.open_entry(caller, Action.LOAD_MODEL, arriving, only_refusals=True):
            self.spec(arriving)
            if leaving == arriving:
                raise InvalidRequest(f"{leaving} can not take its own place.", parameter="to")
            if self.spec(leaving).pinned:
                raise InvalidRequest(
                    f"{leaving} is pinned and makes no room.",
                    hint="A pinned model leaves only when it is unloaded by its name.",
                    parameter="from",
                )
            work = partial(self._switch, leaving)
            return self._jobs.begin(JobType.SWITCH, arriving, caller, work)

    async def _load(self, job: Job) -> Details:
        principal, limit = job.owner.principal, self._load_limit
        return await self._arrive(
            job,
            lambda: self._scheduler.ensure_loaded(job.target, principal, timeout=limit),
        )

    async def _switch(self, leaving: ModelId, job: Job) -> Details:
        principal, limit = job.owner.principal, self._load_limit
        return await self._arrive(
            job,
            lambda: self._scheduler.switch(leaving, job.target, principal, timeout=limit),
        )

    async def _arrive(self, job: Job, arrive: Callable[[], Awaitable[None]]) -> Details:
        with self._gate.open_entry(job.owner, Action.LOAD_MODEL, job.target):
            unsubscribe = self._watch.subscribe(lambda event: self._follow(job, event))
            try:
                self._follow(job, ModelChanged(self._scheduler.status(job.target)))
                await arrive()
            finally:
                unsubscribe()
            status = self._scheduler.status(job.target)
            return {} if status.memory_bytes is None else {"memory_bytes": status.memory_bytes}

    def _follow(self, job: Job, event: Event) -> None:
        if isinstance(event, ModelChanged) and event.status.id == job.target:
            is_waiting = event.status.state is ModelState.QUEUED
            self._jobs.report_waiting(job, is_waiting=is_waiting)
            self._jobs.report_progress(job, event.status.progress)

    async def _unload(self, job: Job) -> Details:
        with self._gate.open_entry(job.owner, Action.UNLOAD_MODEL, job.target):
            await self._scheduler.unload(job.target, job.owner.principal, timeout=self._load_limit)
            return {}

    def _view(self, spec: ModelSpec | RemoteModel) -> ModelView:
        if isinstance(spec, RemoteModel):
            state = ModelState.AVAILABLE if spec.is_on else ModelState.ABSENT
            return ModelView(spec, ModelStatus(spec.id, state))
        status = self._scheduler.status(spec.id)
        return ModelView(spec, status, self._last_used.get(spec.id))

    def _on_served(self, model: ModelId) -> None:
        if model in self._specs:
            self._last_used[model] = self._unix_time()


def _file(spec: ModelSpec) -> tuple[object, ...]:
    return spec.identity, spec.size_bytes, spec.digest


def ensure_is_for(spec: ModelSpec | RemoteModel, purpose: Purpose) -> None:
    """Raise InvalidRequest if `spec` is known to be for something else."""
    if isinstance(spec, ModelSpec) and spec.profile and spec.purpose is not purpose:
        raise InvalidRequest(
            f"{spec.id} {_MAKES[spec.purpose]}; this needs a model that {_MAKES[purpose]}.",
            hint="`x_unified_llm.purpose` in the list of models says what each is for.",
            parameter="model",
        )
