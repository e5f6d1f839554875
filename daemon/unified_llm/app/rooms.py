"""Everything behind the doors, in the order it is opened."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from unified_llm.app import terms
from unified_llm.app.answering import Answering, open_answering
from unified_llm.app.asleep import ModelsAsleep
from unified_llm.app.beside import running
from unified_llm.app.catalogue import CatalogueKeeper, Takers
from unified_llm.app.engine import Engine, open_engine
from unified_llm.app.learning import Learning
from unified_llm.app.neighbourhood import Neighbourhood
from unified_llm.app.plan import Plan
from unified_llm.app.preload import Preload
from unified_llm.app.rescans import Rescans
from unified_llm.app.shelf import ModelShelf
from unified_llm.domain.events import SleepChanged
from unified_llm.fleet.kept_states import KeptStates
from unified_llm.fleet.timers import LoopTimers
from unified_llm.guard.audit import Audit
from unified_llm.host.clock import MonotonicClock, suspended_time, unix_time
from unified_llm.host.folder_watch import FolderWatch
from unified_llm.host.pressure import open_pressure_watch
from unified_llm.operations.administration import Administration
from unified_llm.operations.gate import Gate
from unified_llm.operations.jobs import Jobs
from unified_llm.operations.library import Library
from unified_llm.operations.models import Models
from unified_llm.operations.own_moves import OwnMoves
from unified_llm.operations.status import Status
from unified_llm.operations.watch import Watch
from unified_llm.registry.digests import Digests
from unified_llm.registry.store import Store, open_store
from unified_llm.scheduler.loop import SchedulerLoop
from unified_llm.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything behind the doors, at work."""

    gate: Gate
    watch: Watch
    engine: Engine
    jobs: Jobs
    models: Models
    library: Library
    administration: Administration
    catalogue: CatalogueKeeper
    preload: Preload
    asleep: ModelsAsleep
    answering: Answering
    neighbourhood: Neighbourhood
    status: Status

    @property
    def scheduler(self) -> SchedulerLoop:
        """The engine's."""
        return self.engine.scheduler

    @property
    def states(self) -> KeptStates:
        """The engine's."""
        return self.engine.states


@asynccontextmanager
async def open_rooms(plan: Plan) -> AsyncIterator[Rooms]:
    """All of them, at work; taken down in the reverse order."""
    settings = plan.settings
    async with AsyncExitStack() as stack:
        clock, timers, watch = MonotonicClock(), LoopTimers(), Watch()
        audit = stack.enter_context(Audit([plan.device]))
        gate = Gate(terms.permissions(settings), audit, clock)
        store = await stack.enter_async_context(open_store(plan.registry, unix_time=unix_time))
        learning = await stack.enter_async_context(_open_learning(store))
        engine = await stack.enter_async_context(
            open_engine(settings, clock, timers, watch, learning, OwnMoves(audit))
        )
        scheduler = engine.scheduler

        asleep = await stack.enter_async_context(_open_asleep(plan, engine))
        asleep.on_change = lambda: watch(SleepChanged())
        jobs = await stack.enter_async_context(Jobs(clock, gate, unix_time))
        limit = settings.scheduler.load_seconds
        models = Models(
            gate,
            scheduler,
            jobs,
            watch,
            load_limit=limit,
            rehearse=engine.rehearse,
            unix_time=unix_time,
        )
        opening = _open_catalogue(Takers(models, engine.states), store, settings)
        catalogue = await stack.enter_async_context(opening)
        learning.on_learned = catalogue.relearn
        preload = await stack.enter_async_context(_open_preload(settings, engine))
        shelf = await _swept_shelf(catalogue, models, store)
        library = Library(gate, jobs, models, scheduler, shelf, unload_limit=limit)
        answering = await stack.enter_async_context(
            open_answering(plan, gate, models, engine, timers, store, watch)
        )
        status = _status(plan, gate, engine, asleep, answering, catalogue, store)
        yield Rooms(
            gate,
            watch,
            engine,
            jobs,
            models,
            library,
            Administration(gate, jobs, scheduler, unload_limit=limit),
            catalogue,
            preload,
            asleep,
            answering,
            engine.neighbourhood,
            status,
        )


def _status(
    plan: Plan,
    gate: Gate,
    engine: Engine,
    asleep: ModelsAsleep,
    answering: Answering,
    catalogue: CatalogueKeeper,
    store: Store,
) -> Status:
    """What everybody complains of, together."""
    return Status(
        gate,
        engine.scheduler,
        gate.clock,
        version=plan.version,
        complaints=lambda: (
            *plan.inherited.refused,
            *store.complaints,
            *engine.monitor.faults,
            *catalogue.complaints,
            *asleep.complaints,
            *answering.complaints(),
        ),
        read_memory=engine.monitor.read,
        providers=answering.health,
        surroundings=lambda: engine.neighbourhood.now,
        is_suspending=lambda: asleep.is_suspending,
    )


@asynccontextmanager
async def _open_learning(store: Store) -> AsyncIterator[Learning]:
    learning = Learning(store, Digests(store), unix_time=unix_time)
    async with running(learning.run()):
        yield learning


@asynccontextmanager
async def _open_catalogue(
    takers: Takers, store: Store, settings: Settings
) -> AsyncIterator[CatalogueKeeper]:
    """Filled, and kept in step with the disk."""
    build = terms.engine_build(settings.worker)
    catalogue = CatalogueKeeper(takers, store, build=build, unix_time=unix_time)
    rescans = Rescans(catalogue)
    with FolderWatch(rescans.on_change) as folders:
        catalogue.on_folders = folders.follow
        await catalogue.recall()
        await catalogue.refresh(settings)
        async with running(rescans.run()):
            yield catalogue


async def _swept_shelf(catalogue: CatalogueKeeper, models: Models, store: Store) -> ModelShelf:
    shelf = ModelShelf(catalogue, models, store)
    await shelf.sweep()
    return shelf


@contextmanager
def _watching_pressure(plan: Plan, neighbourhood: Neighbourhood) -> Iterator[None]:
    percent = plan.settings.host.memory_pressure_percent
    if percent is None:
        yield
        return
    watching = open_pressure_watch(plan.pressure, percent, neighbourhood.on_pressure)
    with watching as unwatched:
        neighbourhood.on_pressure_unwatched(unwatched)
        yield


@asynccontextmanager
async def _open_preload(settings: Settings, engine: Engine) -> AsyncIterator[Preload]:
    preload = Preload(
        engine.scheduler,
        load_limit=settings.scheduler.load_seconds,
        plenty=engine.neighbourhood.plenty,
    )
    preload.follow(settings)
    async with running(preload.run()):
        yield preload


@asynccontextmanager
async def _open_asleep(plan: Plan, engine: Engine) -> AsyncIterator[ModelsAsleep]:
    settings = plan.settings
    asleep = ModelsAsleep(
        engine.scheduler,
        engine.gpus,
        is_reloading=settings.host.reload_after_sleep,
        load_limit=settings.scheduler.load_seconds,
        suspended_time=suspended_time,
        plenty=engine.neighbourhood.plenty,
    )
    with _watching_pressure(plan, engine.neighbourhood):
        async with running(asleep.run()):
            yield asleep
