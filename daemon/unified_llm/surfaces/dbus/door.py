"""The daemon on the bus: its objects appear, change and go as the facts do."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import Final, Self

from unified_llm.bus.connection import BusConnection
from unified_llm.bus.exporter import Exporter, open_exporter
from unified_llm.bus.names import (
    JOB_INTERFACE,
    LEASE_INTERFACE,
    LOG_CONTROL_INTERFACE,
    LOG_CONTROL_PATH,
    MANAGER_INTERFACE,
    MODEL_INTERFACE,
    ROOT_PATH,
    job_path,
    lease_path,
    model_path,
)
from unified_llm.bus.objects import ExportedInterface, ExportedObject
from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.errors import UnknownModel
from unified_llm.domain.events import (
    BudgetNearlySpent,
    CatalogueChanged,
    Event,
    FilesChanged,
    ModelStatus,
    SleepChanged,
    SurroundingsChanged,
)
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.operations.administration import Administration
from unified_llm.operations.admission import Admission
from unified_llm.operations.devices import Devices
from unified_llm.operations.http_access import HttpAccess
from unified_llm.operations.inference import Inference
from unified_llm.operations.inhibitors import Inhibitors
from unified_llm.operations.jobs import Job, JobId, Jobs, JobState
from unified_llm.operations.library import Library
from unified_llm.operations.log_control import LogControl
from unified_llm.operations.memory_leases import (
    LeaseId,
    LeasePurpose,
    LeaseState,
    MemoryLease,
    MemoryLeases,
)
from unified_llm.operations.models import Models
from unified_llm.operations.routes import Routes
from unified_llm.operations.spending import Spending
from unified_llm.operations.status import Status
from unified_llm.operations.watch import Watch
from unified_llm.surfaces.dbus import contract, views
from unified_llm.surfaces.dbus.administration import AdministrationVerbs
from unified_llm.surfaces.dbus.generation import Generations
from unified_llm.surfaces.dbus.gpus import GpuObjects
from unified_llm.surfaces.dbus.holdings import Holdings
from unified_llm.surfaces.dbus.routing import RoutingVerbs
from unified_llm.surfaces.dbus.verbs import Verbs

_OURSELVES: Final = Caller(
    uid=0, gids=frozenset(), pid=None, door=Door.INTERNAL, connection="dbus-door"
)

# As PrepareForUnload calls them.
_GAME: Final = "gamemode"
_LEASE: Final = "lease"


class DbusDoor(AbstractAsyncContextManager["DbusDoor"]):
    """Serves the interface files on `bus` while it is entered.

    Entering exports everything; whoever opens the door requests the bus name after that, so that
    nobody who sees the name finds it empty. Leaving takes all objects away and cuts off streams.
    """

    def __init__(
        self,
        bus: BusConnection,
        *,
        models: Models,
        library: Library,
        inference: Inference,
        jobs: Jobs,
        status: Status,
        watch: Watch,
        admission: Admission,
        http: HttpAccess,
        leases: MemoryLeases,
        inhibitors: Inhibitors,
        administration: Administration,
        devices: Devices,
        routes: Routes,
        spending: Spending,
        log: LogControl,
        version: str,
        http_socket_path: PurePath | None,
    ) -> None:
        self._bus = bus
        self._models = models
        self._jobs = jobs
        self._status = status
        self._watch = watch
        self._http = http
        self._version = version
        self._http_socket_path = http_socket_path
        self._generations = Generations(inference, jobs)
        self._leases = leases
        self._inhibitors = inhibitors
        self._holdings = Holdings(leases, inhibitors)
        self._devices = devices
        self._spending = spending
        self._log = log
        self._administration = AdministrationVerbs(administration, log, admission)
        self._verbs = Verbs(
            models,
            library,
            jobs,
            self._generations,
            admission,
            http,
            self._holdings,
            self._administration,
            RoutingVerbs(routes),
        )
        self._stack = AsyncExitStack()
        self._states: dict[ModelId, ModelState] = {}
        self._running: set[JobId] = set()
        self._exported_jobs: set[JobId] = set()
        self._leased: defaultdict[str, set[LeaseId]] = defaultdict(set)
        self._exporter: Exporter
        self._gpus: GpuObjects

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._exporter = await stack.enter_async_context(open_exporter(self._bus))
            stack.callback(self._generations.close)
            self._export_root()
            self._export_log()
            self._follow_devices(stack)
            self._export_models(view.spec.id for view in self._models.list(_OURSELVES))
            stack.callback(self._watch.subscribe(self._on_event))
            stack.callback(self._bus.on_name_vanished(self._jobs.owner_vanished))
            stack.callback(self._bus.on_name_vanished(self._http.owner_vanished))
            stack.callback(self._bus.on_name_vanished(self._holdings.owner_vanished))
            self._follow_jobs(stack)
            self._follow_holdings(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def end_generations(self) -> None:
        """The time to finish is over: end each with one `closing` error."""
        self._generations.end_all()

    def refresh_state(self) -> None:
        """Read the daemon's state anew; for whoever opens the doors, drains, or finds a fault."""
        health = self._status.health()
        self._set_root({"State": health.state.value, "Degraded": list(health.degraded)})

    def tell_unload(self, reason: str, *, begins: bool) -> None:
        """Models leave memory, or may come back; for whoever makes them. reason: as promised."""
        self._emit("PrepareForUnload", begins, reason)

    def refresh_log(self) -> None:
        """Read the log level anew; for whoever has set it."""
        self._exporter.set_properties(
            LOG_CONTROL_PATH, LOG_CONTROL_INTERFACE, {"LogLevel": self._log.level}
        )

    def _export_log(self) -> None:
        properties = {
            "LogLevel": self._log.level,
            "LogTarget": self._log.target,
            "SyslogIdentifier": self._log.identifier,
        }
        setters = self._administration.log_setters(self.refresh_log)
        found = ExportedInterface(contract.LOG_CONTROL, {}, properties, setters)
        self._exporter.export(LOG_CONTROL_PATH, ExportedObject((found,)))

    def _export_root(self) -> None:
        path, health = self._http_socket_path, self._status.health()
        properties = {
            "Version": self._version,
            "ApiFeatures": contract.API_FEATURES,
            "State": health.state.value,
            "Degraded": list(health.degraded),
            "LoadedModels": [],
            "NJobs": 0,
            "HttpSocketPath": "" if path is None else str(path),
            "GameMode": False,
            "DelayInhibited": "",
            **views.surroundings_properties(self._status.surroundings),
        }
        root = ExportedInterface(contract.MANAGER, self._verbs.of_manager(), properties)
        self._exporter.export(ROOT_PATH, ExportedObject((root,)))

    def _export_models(self, models: Iterable[ModelId]) -> None:
        for model in models:
            view = self._models.get(_OURSELVES, model)
            found = ExportedInterface(
                contract.MODEL,
                self._verbs.of_model(model),
                views.model_properties(view),
                reader=partial(self._unannounced, model),
            )
            self._exporter.export(model_path(model), ExportedObject((found,)))
            self._states[model] = view.status.state
        self._on_states_changed()

    def _unexport_models(self, models: Iterable[ModelId]) -> None:
        for model in models:
            self._exporter.unexport(model_path(model))
            del self._states[model]
        self._on_states_changed()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, CatalogueChanged):
            self._unexport_models(event.removed & self._states.keys())
            self._export_models(event.added - self._states.keys())
        elif isinstance(event, FilesChanged):
            for model in event.models & self._states.keys():
                self._on_file(model)
        elif isinstance(event, SleepChanged):
            self.refresh_state()
        elif isinstance(event, SurroundingsChanged):
            self._set_root(views.surroundings_properties(event.surroundings))
            self.refresh_state()
        elif isinstance(event, BudgetNearlySpent):
            self._warn(event)
        elif event.status.id in self._states:
            self._on_status(event.status)

    def _warn(self, warning: BudgetNearlySpent) -> None:
        """Tell those who may know of the account, as far as it is known who they are."""
        values = views.budget_warning(warning)
        if self._spending.concerns_all(warning):
            self._emit("BudgetWarning", *values)
            return
        for caller in self._exporter.callers:
            if self._spending.concerns(caller, warning):
                self._emit("BudgetWarning", *values, to=caller.connection)

    def _on_status(self, status: ModelStatus) -> None:
        changed = views.status_properties(status)
        self._exporter.set_properties(model_path(status.id), MODEL_INTERFACE, changed)
        # Statuses change with each request; the whole picture only when a state does.
        if self._states[status.id] is not status.state:
            self._states[status.id] = status.state
            self._on_states_changed()

    def _on_file(self, model: ModelId) -> None:
        changed = views.file_properties(self._models.find(model))
        self._exporter.set_properties(model_path(model), MODEL_INTERFACE, changed)

    def _unannounced(self, model: ModelId) -> dict[str, object]:
        try:
            return views.unannounced_properties(self._models.look(model))
        except UnknownModel:
            # Out of the catalogue already; the event that says so is the next.
            return {}

    def _on_states_changed(self) -> None:
        loaded = [model_path(id_) for id_, state in self._states.items() if state in views.LOADED]
        self._set_root({"LoadedModels": sorted(loaded)})
        self._gpus.refresh()
        self.refresh_state()

    def _follow_jobs(self, stack: AsyncExitStack) -> None:
        for job in self._jobs.visible_to(_OURSELVES):
            self._on_job_changed(job)
        self._jobs.on_change, self._jobs.on_forget = self._on_job_changed, self._on_job_forgotten

        def stop_following() -> None:
            self._jobs.on_change = self._jobs.on_forget = lambda job: None

        stack.callback(stop_following)

    def _follow_holdings(self, stack: AsyncExitStack) -> None:
        self._leases.on_change = self._on_lease_changed
        self._inhibitors.on_change = self._on_inhibitors_changed
        stack.callback(self._holdings.close)

    def _follow_devices(self, stack: AsyncExitStack) -> None:
        self._gpus = GpuObjects(self._devices, self._exporter)
        self._gpus.refresh()
        self._devices.on_change = self._on_reading

        def stop_following() -> None:
            self._devices.on_change = lambda: None

        stack.callback(stop_following)

    def _on_reading(self) -> None:
        self._gpus.refresh()
        # A driver may have stopped answering, or begun to.
        self.refresh_state()

    def _on_lease_changed(self, lease: MemoryLease) -> None:
        path = lease_path(lease.id)
        self._set_root({"GameMode": self._leases.is_gaming})
        self._holdings.on_lease_changed(lease)
        self._tell_of_leases(lease)
        if lease.state is LeaseState.ENDED:
            self._exporter.unexport(path)
        elif self._exporter.is_exported(path):
            self._exporter.set_properties(path, LEASE_INTERFACE, {"State": lease.state.value})
        else:
            found = ExportedInterface(
                contract.LEASE, self._verbs.of_lease(lease), views.lease_properties(lease)
            )
            self._exporter.export(path, ExportedObject((found,), lease.owner))

    def _on_inhibitors_changed(self) -> None:
        self._holdings.on_inhibitors_changed()
        self._set_root({"DelayInhibited": self._inhibitors.delayed})

    def _tell_of_leases(self, lease: MemoryLease) -> None:
        """When there is a first one, and when there is none any more; of games by themselves."""
        reason = _GAME if lease.purpose is LeasePurpose.GAME else _LEASE
        held = self._leased[reason]
        before = bool(held)
        if lease.state is LeaseState.ENDED:
            held.discard(lease.id)
        else:
            held.add(lease.id)
        if bool(held) is not before:
            self.tell_unload(reason, begins=not before)

    def _on_job_changed(self, job: Job) -> None:
        if job.id not in self._exported_jobs:
            self._export_job(job)
        else:
            self._exporter.set_properties(job_path(job.id), JOB_INTERFACE, views.job_changes(job))
        self._generations.on_job_changed(job)
        if job.is_private:
            return
        if job.state is JobState.FINISHED and job.id in self._running:
            self._running.discard(job.id)
            self._emit("JobRemoved", *views.job_removed(job))
        self._set_root({"NJobs": len(self._running)})

    def _export_job(self, job: Job) -> None:
        found = ExportedInterface(contract.JOB, self._verbs.of_job(job), views.job_properties(job))
        owner = job.owner if job.is_private else None
        self._exporter.export(job_path(job.id), ExportedObject((found,), owner))
        self._exported_jobs.add(job.id)
        if not job.is_private and job.state is not JobState.FINISHED:
            self._running.add(job.id)
            self._emit("JobNew", job.id, job.type.value, job_path(job.id))

    def _on_job_forgotten(self, job: Job) -> None:
        self._exporter.unexport(job_path(job.id))
        self._exported_jobs.discard(job.id)

    def _set_root(self, values: dict[str, object]) -> None:
        self._exporter.set_properties(ROOT_PATH, MANAGER_INTERFACE, values)

    def _emit(self, signal: str, *values: object, to: str | None = None) -> None:
        self._exporter.emit_signal(ROOT_PATH, MANAGER_INTERFACE, signal, *values, to=to)
