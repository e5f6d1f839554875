"""The methods of our interfaces: arguments into the domain's words, and answers back.

Nothing is decided here. Each handler's name in the tables is that of the interface file. A handler
reads its arguments to the end, then asks for leave, then acts on what it has read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from unified_llm.bus.names import job_path, lease_path, model_path
from unified_llm.bus.objects import CallContext, Handler
from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import Message, Role
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes
from unified_llm.downloads.local_import import SourceFile
from unified_llm.guard.permissions import Action
from unified_llm.operations.admission import Admission
from unified_llm.operations.http_access import HttpAccess
from unified_llm.operations.jobs import Job, Jobs
from unified_llm.operations.library import ALL, Library
from unified_llm.operations.memory_leases import MemoryLease
from unified_llm.operations.models import Models
from unified_llm.surfaces.dbus import views
from unified_llm.surfaces.dbus.administration import AdministrationVerbs
from unified_llm.surfaces.dbus.generation import Generations
from unified_llm.surfaces.dbus.holdings import Holdings
from unified_llm.surfaces.dbus.options import (
    GenerateOptions,
    GenerateTextOptions,
    ImportOptions,
    LoadOptions,
    NoOptions,
    RemoveOptions,
    ReserveOptions,
    parse_messages,
    parse_options,
)
from unified_llm.surfaces.dbus.routing import RoutingVerbs

Options = Mapping[str, object]
Began = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Verbs:
    """What stands behind the methods."""

    models: Models
    library: Library
    jobs: Jobs
    generations: Generations
    admission: Admission
    http: HttpAccess
    holdings: Holdings
    administration: AdministrationVerbs
    routing: RoutingVerbs

    def of_manager(self) -> dict[str, Handler]:
        """Every method of org.unifiedllm1.Manager."""
        return {
            "ListModels": self._list_models,
            "ListJobs": self._list_jobs,
            "GetModel": self._get_model,
            "LoadModel": self._load_model,
            "UnloadModel": self._unload_model,
            "SwitchModel": self._switch_model,
            "ScanModels": self._scan_models,
            "ImportModel": self._import_model,
            "RemoveModel": self._remove_model,
            "VerifyModel": self._verify_model,
            "Generate": self._generate,
            "GenerateText": self._generate_text,
            "OpenHttpConnection": self._open_http_connection,
            "ReserveVram": self._reserve_vram,
            "Inhibit": self._inhibit,
            "ListInhibitors": self._list_inhibitors,
            **self.administration.of_manager(),
            **self.routing.of_manager(),
        }

    def of_model(self, model: ModelId) -> dict[str, Handler]:
        """Every method of org.unifiedllm1.Model."""
        return {
            "Load": partial(self._load, model),
            "Unload": partial(self._unload, model),
            "Remove": partial(self._remove, model),
            "Verify": partial(self._verify, model),
        }

    def of_job(self, job: Job) -> dict[str, Handler]:
        """Every method of org.unifiedllm1.Job."""
        return {"Cancel": partial(self._cancel, job), "Wait": partial(self._wait, job)}

    def of_lease(self, lease: MemoryLease) -> dict[str, Handler]:
        """Every method of org.unifiedllm1.Lease."""
        return {
            "Wait": partial(self._wait_for_lease, lease),
            "Release": partial(self._release, lease),
        }

    async def _list_models(
        self, context: CallContext, options: Options
    ) -> tuple[list[tuple[object, ...]]]:
        parse_options(NoOptions, options)
        return ([views.listed(view) for view in self.models.list(context.caller)],)

    async def _get_model(self, context: CallContext, model: str) -> tuple[str]:
        view = self.models.get(context.caller, ModelId(model))
        return (model_path(view.spec.id),)

    async def _load_model(self, context: CallContext, model: str, options: Options) -> Began:
        return await self._load(ModelId(model), context, options)

    async def _unload_model(self, context: CallContext, model: str, options: Options) -> Began:
        return await self._unload(ModelId(model), context, options)

    async def _switch_model(
        self, context: CallContext, leaving: str, arriving: str, options: Options
    ) -> Began:
        parse_options(NoOptions, options)
        caller = await self._granted(context, Action.LOAD_MODEL, ModelId(arriving))
        return _began(self.models.begin_switch(caller, ModelId(leaving), ModelId(arriving)))

    async def _load(self, model: ModelId, context: CallContext, options: Options) -> Began:
        is_tied = parse_options(LoadOptions, options).cancel_on_disconnect
        caller = await self._granted(context, Action.LOAD_MODEL, model)
        return _began(self.models.begin_load(caller, model, is_tied=is_tied))

    async def _unload(self, model: ModelId, context: CallContext, options: Options) -> Began:
        parse_options(NoOptions, options)
        caller = await self._granted(context, Action.UNLOAD_MODEL, model)
        return _began(self.models.begin_unload(caller, model))

    async def _scan_models(self, context: CallContext, options: Options) -> Began:
        parse_options(NoOptions, options)
        caller = await self.admission.grant(
            context.caller, Action.SCAN_MODELS, ALL, {}, may_interact=context.may_interact
        )
        return _began(self.library.begin_scan(caller))

    async def _import_model(self, context: CallContext, file: int, options: Options) -> Began:
        with SourceFile(file) as source:
            name = parse_options(ImportOptions, options).name
            target = ALL if name is None else name
            caller = await self.admission.grant(
                context.caller,
                Action.IMPORT_MODEL,
                target,
                {} if name is None else {"model": name},
                may_interact=context.may_interact,
            )
            return _began(await self.library.begin_import(caller, source, name))

    async def _remove_model(self, context: CallContext, model: str, options: Options) -> Began:
        return await self._remove(ModelId(model), context, options)

    async def _remove(self, model: ModelId, context: CallContext, options: Options) -> Began:
        force = parse_options(RemoveOptions, options).force
        caller = await self._granted(context, Action.REMOVE_MODEL, model)
        return _began(self.library.begin_remove(caller, model, force=force))

    async def _verify_model(self, context: CallContext, model: str, options: Options) -> Began:
        return await self._verify(ModelId(model), context, options)

    async def _verify(self, model: ModelId, context: CallContext, options: Options) -> Began:
        parse_options(NoOptions, options)
        caller = await self._granted(context, Action.SCAN_MODELS, model)
        return _began(self.library.begin_verify(caller, model))

    async def _generate(
        self, context: CallContext, model: str, messages: list[list[str]], options: Options
    ) -> tuple[int, str, int]:
        chosen = parse_options(GenerateOptions, options)
        request = chosen.request(ModelId(model), parse_messages(messages))
        caller = await self._granted(context, Action.GENERATE, request.model)
        job, reading = self.generations.begin_stream(caller, request)
        return (*_began(job), reading)

    async def _generate_text(
        self, context: CallContext, model: str, prompt: str, options: Options
    ) -> tuple[object, ...]:
        chosen = parse_options(GenerateTextOptions, options)
        before = () if chosen.system is None else (Message(Role.SYSTEM, chosen.system),)
        messages = (*before, Message(Role.USER, prompt))
        request = chosen.request(ModelId(model), messages)
        caller = await self._granted(context, Action.GENERATE, request.model)
        text, figures = await self.generations.answer(caller, request)
        return text, views.variants(figures)

    async def _list_jobs(
        self, context: CallContext, options: Options
    ) -> tuple[list[tuple[object, ...]]]:
        parse_options(NoOptions, options)
        return ([views.listed_job(job) for job in self.jobs.visible_to(context.caller)],)

    async def _open_http_connection(self, context: CallContext, options: Options) -> tuple[int]:
        parse_options(NoOptions, options)
        caller = await self.admission.grant(
            context.caller, Action.GENERATE, None, {}, may_interact=context.may_interact
        )
        return ((await self.http.open_connection(caller)).detach(),)

    async def _reserve_vram(
        self, context: CallContext, size: int, who: str, why: str, options: Options
    ) -> tuple[int, str]:
        purpose = parse_options(ReserveOptions, options).purpose
        caller = await self.admission.grant(
            context.caller,
            Action.RESERVE_VRAM,
            who,
            {"bytes": str(size), "who": who, "why": why},
            may_interact=context.may_interact,
        )
        lease, theirs = self.holdings.begin_lease(caller, Bytes(size), who, why, purpose)
        return theirs, lease_path(lease.id)

    async def _inhibit(
        self, context: CallContext, what: str, who: str, why: str, mode: str
    ) -> tuple[int]:
        caller = await self.admission.grant(
            context.caller,
            Action.INHIBIT,
            what,
            {"what": what, "who": who, "why": why, "mode": mode},
            may_interact=context.may_interact,
        )
        return (self.holdings.begin_inhibitor(caller, what, who, why, mode),)

    async def _list_inhibitors(
        self, context: CallContext, options: Options
    ) -> tuple[list[tuple[object, ...]]]:
        parse_options(NoOptions, options)
        held = self.holdings.list_inhibitors(context.caller)
        return ([views.listed_inhibitor(each) for each in held],)

    async def _wait_for_lease(self, lease: MemoryLease, context: CallContext) -> tuple[str]:
        await lease.settled.wait()
        return (lease.state.value,)

    async def _release(self, lease: MemoryLease, context: CallContext) -> None:
        self.holdings.end_lease(lease)

    async def _cancel(self, job: Job, context: CallContext) -> None:
        caller = context.caller
        if caller.uid != job.owner.uid:
            details = {"type": job.type.value, "model": job.target, "uid": str(job.owner.uid)}
            caller = await self.admission.grant(
                caller,
                Action.MANAGE_JOBS,
                f"job {job.id}",
                details,
                may_interact=context.may_interact,
            )
        self.jobs.cancel(job, caller)

    async def _wait(self, job: Job, context: CallContext) -> tuple[object, ...]:
        await job.finished.wait()
        return views.job_outcome(job)

    async def _granted(self, context: CallContext, action: Action, model: ModelId) -> Caller:
        """The caller, with leave for `action` on `model`."""
        return await self.admission.grant(
            context.caller, action, model, {"model": model}, may_interact=context.may_interact
        )


def _began(job: Job) -> Began:
    return job.id, job_path(job.id)
