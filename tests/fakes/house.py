"""The real operations over fakes of what is below them, for tests of the door."""

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.ledger import FakeLedger
from tests.fakes.memory import FakeMemory
from tests.fakes.profiles import sized_profile
from tests.fakes.shelf import FakeShelf
from tests.fakes.timers import FakeTimers
from tests.fakes.vectors import FakeVectors
from tests.fakes.workers import FakeWorkers
from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.chat import Finished, FinishReason, TextDelta, Usage
from unified_llm.domain.devices import RAM
from unified_llm.domain.events import ModelChanged, Surroundings
from unified_llm.domain.measurements import DryRun
from unified_llm.domain.models import FileIdentity, ModelId, ModelSpec
from unified_llm.domain.money import Price
from unified_llm.domain.placement import Placement
from unified_llm.domain.ports import Backend, Embedder
from unified_llm.domain.profile import Purpose
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.guard.audit import Audit
from unified_llm.guard.permissions import Authority, Permissions
from unified_llm.operations.administration import Administration
from unified_llm.operations.admission import Admission
from unified_llm.operations.devices import Devices
from unified_llm.operations.embedding import Embedding
from unified_llm.operations.gate import Gate
from unified_llm.operations.http_access import HttpAccess
from unified_llm.operations.inference import Inference
from unified_llm.operations.inhibitors import Inhibitors
from unified_llm.operations.jobs import Jobs
from unified_llm.operations.library import Library
from unified_llm.operations.log_control import LogControl
from unified_llm.operations.memory_leases import MemoryLeases
from unified_llm.operations.models import Models
from unified_llm.operations.prospects import Prospects
from unified_llm.operations.routes import Routes
from unified_llm.operations.spending import Spending
from unified_llm.operations.status import Status
from unified_llm.operations.watch import Watch
from unified_llm.planner.run_shape import RunShape
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.attempts import AttemptPolicy
from unified_llm.routing.breaker import BreakerPolicy
from unified_llm.routing.budget import Budgets, Limit
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.router import Router
from unified_llm.routing.routes import RouteBook
from unified_llm.routing.rules import Situation
from unified_llm.routing.vectors import VectorRouter
from unified_llm.scheduler.loop import SchedulerLoop
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.surfaces.dbus.administration import AdministrationVerbs
from unified_llm.surfaces.dbus.generation import Generations
from unified_llm.surfaces.dbus.holdings import Holdings
from unified_llm.surfaces.dbus.routing import RoutingVerbs
from unified_llm.surfaces.dbus.verbs import Verbs

DAEMON_UID, USER_GID, ADMIN_GID = 990, 2001, 2002
TINY, BIG = ModelId("tiny"), ModelId("org/big:q4")
MINILM, JUDGE = ModelId("minilm"), ModelId("judge")
GIB = 1024**3
TODAY = "2026-11-22"
END = Finished(FinishReason.STOP, Usage(Tokens(5), Tokens(2), Tokens(1)), total=Seconds(0.5))
ANSWER = (TextDelta("Blue "), TextDelta("light."), END)


def caller(uid: int, *gids: int, connection: str = ":1.7") -> Caller:
    """A caller as the bus names it."""
    return Caller(uid=uid, gids=frozenset(gids), pid=42, door=Door.DBUS, connection=connection)


ROOT = caller(0, 0)
USER = caller(1000, 1000, USER_GID)
OTHER_USER = caller(1001, 1001, USER_GID, connection=":1.8")
ADMIN = caller(1002, 1002, ADMIN_GID)
STRANGER = caller(1003, 1003)

NOON = Situation(12 * 60, on_battery=False)
PURPOSES = {MINILM: Purpose.EMBEDDING, JUDGE: Purpose.RANKING}


def make_spec(model: ModelId, *, size_bytes: int = GIB, source: str = "settings") -> ModelSpec:
    """A model that fits; for chat, unless it is one of PURPOSES."""
    profile = sized_profile(GIB, RunShape(Tokens(4096), 2))
    return ModelSpec(
        id=model,
        path=PurePath("/models/file.gguf"),
        identity=FileIdentity(1, 2, Bytes(size_bytes), 4),
        defect=None,
        size_bytes=Bytes(size_bytes),
        architecture="llama",
        context_tokens=Tokens(4096),
        slots=2,
        threads=None,
        keep_alive=None,
        pinned=False,
        source=source,
        profile=replace(profile, purpose=PURPOSES.get(model, Purpose.CHAT)),
    )


@dataclass(slots=True)
class AuditTrail:
    """An AuditDevice that keeps what is written."""

    records: list[dict[str, str]] = field(default_factory=list)

    def write(self, fields: Mapping[str, str]) -> None:
        """As in AuditDevice."""
        self.records.append(dict(fields))


@dataclass(slots=True)
class FakeHttpServer:
    """http_access.ServesConnections: says who speaks, and hangs up."""

    async def serve_connection(self, connected: socket.socket, caller: Caller) -> None:
        """As in ServesConnections."""
        with connected:
            connected.send(f"{caller.principal}\n".encode())

    def end_connections(self, connection: str) -> None:
        """Nothing is open any more."""


@dataclass(frozen=True, slots=True)
class House:
    """Operations, what is below them, and what they left in the audit log."""

    gate: Gate
    admission: Admission
    http: HttpAccess
    leases: MemoryLeases
    inhibitors: Inhibitors
    administration: Administration
    devices: Devices
    memory: FakeMemory
    log: LogControl
    models: Models
    library: Library
    shelf: FakeShelf
    routes: Routes
    spending: Spending
    inference: Inference
    embedding: Embedding
    jobs: Jobs
    status: Status
    watch: Watch
    scheduler: SchedulerLoop
    workers: FakeWorkers
    backend: FakeBackend
    encoder: FakeVectors
    trail: AuditTrail
    complaints: list[str]
    clock: FakeClock

    def end_holdings(self) -> None:
        """Have nobody hold anything; it is recorded then."""
        self.leases.end_all()
        self.inhibitors.end_all()

    def set_models(self, *models: ModelId, size_bytes: int = GIB, source: str = "settings") -> None:
        """These are all the models from now on."""
        self.models.replace_catalogue(
            {model: make_spec(model, size_bytes=size_bytes, source=source) for model in models}
        )


async def rehearse_nothing(spec: ModelSpec, placement: Placement) -> DryRun:
    """An engine that computes nothing takes nothing but weights."""
    return DryRun(Bytes(0), {RAM: Bytes(0)})


def make_scheduler(clock: FakeClock, workers: FakeWorkers, watch: Watch) -> SchedulerLoop:
    """One with room for a few models."""
    return SchedulerLoop(
        SchedulingPolicy(ram_budget=Bytes(8 * GIB)),
        clock=clock,
        workers=workers,
        on_status=lambda status: watch(ModelChanged(status)),
        jitter=lambda: 1.0,
        call_later=clock.call_later,
    )


def make_accounts(
    ledger: FakeLedger, limits: Sequence[Limit], prices: Mapping[ModelId, Price]
) -> Accounts:
    """Nothing has a price unless it is given."""
    return Accounts(prices, Budgets(limits), lambda: TODAY, ledger.lines.append)


def make_routes(
    gate: Gate,
    models: Models,
    backend: Backend,
    providers: Mapping[str, Backend],
    book: RouteBook | None,
    accounts: Accounts,
) -> Routes:
    """Over `backend` as this machine's, and these providers."""
    health = Health(providers, BreakerPolicy(), lambda: 1.0)
    directory = Directory[Backend](backend, providers)
    prospects = Prospects(models, directory, health, accounts, Latencies(), gate.clock)
    return Routes(gate, models, prospects, book or RouteBook(), lambda: NOON)


def make_router(routes: Routes) -> Router:
    """One whose time stands still."""
    known = routes.prospects
    parts = known.directory, known.health, known.accounts, known.latencies
    return Router(*parts, FakeTimers(), AttemptPolicy(), RetryBudget())


def _vectors(
    router: Router, here: Embedder, providers: Mapping[str, Embedder] | None
) -> VectorRouter:
    return VectorRouter(Directory[Embedder](here, providers or {}), router)


def _permissions(authority: Authority | None) -> Permissions:
    doors = frozenset({Door.DBUS} if authority else ())
    return Permissions(DAEMON_UID, USER_GID, ADMIN_GID, doors)


def _status(
    gate: Gate,
    scheduler: SchedulerLoop,
    complaints: list[str],
    health: Health,
    memory: FakeMemory,
) -> Status:
    return Status(
        gate,
        scheduler,
        gate.clock,
        version="1.2.3",
        complaints=lambda: complaints,
        read_memory=memory.read,
        surroundings=Surroundings,
        providers=health,
        is_suspending=lambda: False,
    )


def make_models(gate: Gate, scheduler: SchedulerLoop, jobs: Jobs, watch: Watch) -> Models:
    """Of an engine that takes nothing but weights."""
    return Models(
        gate,
        scheduler,
        jobs,
        watch,
        load_limit=Seconds(60),
        rehearse=rehearse_nothing,
        unix_time=lambda: 1_700_000_000.0,
    )


@asynccontextmanager
async def open_house(
    *,
    backend: FakeBackend | None = None,
    obedient: bool = True,
    authority: Authority | None = None,
    providers: Mapping[str, Backend] | None = None,
    book: RouteBook | None = None,
    limits: Sequence[Limit] = (),
    prices: Mapping[ModelId, Price] | None = None,
    embedders: Mapping[str, Embedder] | None = None,
) -> AsyncIterator[House]:
    """Models `tiny` and `org/big:q4`, on disk and not loaded; leaving writes the audit log.

    authority: asked on the D-Bus door; None if groups decide there too. embedders: providers too.
    """
    clock, watch, trail = FakeClock(), Watch(), AuditTrail()
    workers, encoder, complaints = FakeWorkers(obedient=obedient), FakeVectors(), list[str]()
    backend = backend or FakeBackend(ANSWER)
    with Audit([trail]) as audit:
        gate = Gate(_permissions(authority), audit, clock)
        scheduler = make_scheduler(clock, workers, watch)
        workers.reports = scheduler
        async with Jobs(clock, gate, lambda: 1_700_000_000.0) as jobs:
            models = make_models(gate, scheduler, jobs, watch)
            shelf, memory, ledger = FakeShelf(), FakeMemory(), FakeLedger()
            accounts = make_accounts(ledger, limits, prices or {})
            routes = make_routes(gate, models, backend, providers or {}, book, accounts)
            router = make_router(routes)
            status = _status(gate, scheduler, complaints, routes.prospects.health, memory)
            house = House(
                gate,
                Admission(gate, authority),
                HttpAccess(gate, FakeHttpServer()),
                MemoryLeases(gate, scheduler),
                Inhibitors(gate, scheduler),
                Administration(gate, jobs, scheduler, unload_limit=Seconds(60)),
                Devices(memory, scheduler.memory_held),
                memory,
                LogControl(gate, "unified-llmd", "console"),
                models,
                Library(gate, jobs, models, scheduler, shelf, unload_limit=Seconds(60)),
                shelf,
                routes,
                Spending(gate, ledger, accounts.budgets, lambda: TODAY),
                Inference(gate, routes, router),
                Embedding(gate, models, routes, _vectors(router, encoder, embedders), encoder),
                jobs,
                status,
                watch,
                scheduler,
                workers,
                backend,
                encoder,
                trail,
                complaints,
                clock,
            )
            _open(house)
            yield house
            house.end_holdings()


def _open(house: House) -> None:
    reloads = house.administration.reloads
    reloads.on_asked = lambda: reloads.begin()(())
    house.set_models(TINY, BIG)
    house.status.doors_opened()


def verbs_of(house: House) -> Verbs:
    """The methods of the interfaces, over `house` and without a bus."""
    generations = Generations(house.inference, house.jobs)
    house.jobs.on_change = generations.on_job_changed
    holdings = Holdings(house.leases, house.inhibitors)
    house.leases.on_change = holdings.on_lease_changed
    house.inhibitors.on_change = holdings.on_inhibitors_changed
    return Verbs(
        house.models,
        house.library,
        house.jobs,
        generations,
        house.admission,
        house.http,
        holdings,
        AdministrationVerbs(house.administration, house.log, house.admission),
        RoutingVerbs(house.routes),
    )
