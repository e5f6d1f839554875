import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.reports import FakeReports
from tests.fakes.timers import FakeTimers, settle
from tests.fakes.worker_link import SANDBOX, FakeWorkerLink, hello
from tests.unit.fleet.asking import PLACEMENT, TINY, order
from unified_llm.domain.devices import RAM
from unified_llm.domain.errors import (
    Closing,
    ModelFailedToLoad,
    NoRoom,
    Quarantined,
    WorkerDied,
)
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.ports import Lease
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.fleet.generation_stream import WorkerLeavingError
from unified_llm.fleet.model_worker import ModelWorker
from unified_llm.fleet.poison import Quarantine
from unified_llm.fleet.supervisor import Fleet
from unified_llm.scheduler.effects import Generation, LoadedModel
from unified_llm.worker.protocol import LoadFailed, Progress, Stop

GRACE = Seconds(2.0)
DIED = ["load_finished", "worker_died", "memory_returned"]
STOPPED = ["load_finished", "stop_finished", "memory_returned"]


def spec(model: ModelId = TINY) -> ModelSpec:
    return ModelSpec(
        id=model, path=PurePath("tiny.gguf"), identity=None, defect=None, size_bytes=Bytes(1),
        architecture=None, context_tokens=Tokens(512), slots=2, threads=1, keep_alive=None,
        pinned=False, source="settings",
    )  # fmt: skip


class Scene:
    """A fleet whose workers are fakes. gate: opened workers wait for it, as for a slow disk."""

    def __init__(self) -> None:
        self.timers = FakeTimers()
        self.reports = FakeReports()
        self.quarantine = Quarantine(b"key")
        self.fleet = Fleet(self._open_worker, self.quarantine, self.timers)
        self.workers: list[FakeWorkerLink] = []
        self.spawn_error: ModelFailedToLoad | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.open_workers = 0

    @asynccontextmanager
    async def _open_worker(self, spec: ModelSpec) -> AsyncIterator[ModelWorker]:
        await self.gate.wait()
        if self.spawn_error is not None:
            raise self.spawn_error
        worker = FakeWorkerLink(self.timers)
        self.workers.append(worker)
        self.open_workers += 1
        try:
            yield ModelWorker(worker.link)
        finally:
            worker.process.kill()
            self.open_workers -= 1

    async def begin(self, generation: int = 1) -> None:
        self.fleet.begin_load(spec(), Generation(generation), PLACEMENT)
        await settle()

    async def load(self, generation: int = 1) -> FakeWorkerLink:
        await self.begin(generation)
        self.workers[-1].greet()
        await settle()
        return self.workers[-1]

    async def stop(self, generation: int = 1) -> None:
        self.fleet.begin_stop(TINY, Generation(generation), grace=GRACE)
        await settle()


@asynccontextmanager
async def fleet_at_work() -> AsyncIterator[Scene]:
    scene = Scene()
    async with asyncio.TaskGroup() as group:
        async with scene.fleet.open(scene.reports):
            yield scene
            clock = group.create_task(scene.timers.advance(60))
        await clock
    assert scene.open_workers == 0


async def test_a_load_is_reported_with_what_the_worker_says() -> None:
    async with fleet_at_work() as scene:
        await scene.begin()
        scene.workers[0].channel.say(hello(), Progress(fraction=0.5))
        await settle()
        assert scene.reports.all == [("load_progressed", TINY, 1, 0.5)]
        scene.workers[0].greet()
        await settle()
        # The second Hello is out of place.
        assert isinstance(scene.reports.value("load_finished", 1), ModelFailedToLoad)


async def test_a_worker_that_serves_and_is_stopped() -> None:
    async with fleet_at_work() as scene:
        worker = await scene.load()
        assert scene.reports.value("load_finished", 1) == LoadedModel(
            Tokens(512), 2, {RAM: Bytes(1000)}, SANDBOX
        )
        await scene.stop()
        assert scene.reports.of(1) == ["load_finished"]
        worker.process.end(0)
        await settle()
        assert scene.reports.of(1) == STOPPED


async def test_a_worker_that_dies_has_its_requests_charged_before_it_is_reported() -> None:
    async with fleet_at_work() as scene:
        for generation in (1, 2):
            worker = await scene.load(generation)
            async with scene.fleet.open_stream(Lease(TINY, generation), order("poison")) as stream:
                worker.process.end(-11)
                with pytest.raises(WorkerDied, match="SIGSEGV"):
                    await stream.next_frame()
            await settle()
            assert scene.reports.of(generation) == DIED
        with pytest.raises(Quarantined):
            scene.quarantine.ensure_allowed(b"poison", scene.timers.now())


async def test_a_worker_that_cannot_be_started() -> None:
    async with fleet_at_work() as scene:
        scene.spawn_error = ModelFailedToLoad("no such program")
        await scene.begin()
        assert scene.reports.of(1) == STOPPED
        assert scene.reports.value("load_finished", 1) is scene.spawn_error


async def test_a_load_that_ran_out_of_memory_is_reported_as_that() -> None:
    async with fleet_at_work() as scene:
        await scene.begin()
        scene.workers[0].channel.say(hello(), None)
        scene.workers[0].process.end(-9, out_of_memory=True)
        await settle()
        assert scene.reports.of(1) == STOPPED
        assert isinstance(scene.reports.value("load_finished", 1), NoRoom)


async def test_a_worker_that_refuses_its_model() -> None:
    async with fleet_at_work() as scene:
        await scene.begin()
        scene.workers[0].channel.say(hello(), LoadFailed(message="bad tensors"))
        await settle()
        assert scene.reports.of(1) == STOPPED
        assert "bad tensors" in str(scene.reports.value("load_finished", 1))


async def test_a_stop_that_comes_before_the_worker_is_not_lost() -> None:
    async with fleet_at_work() as scene:
        scene.gate.clear()
        await scene.begin()
        await scene.stop()
        assert scene.reports.all == []
        scene.gate.set()
        await settle()
        assert scene.reports.of(1) == STOPPED
        assert "was stopped" in str(scene.reports.value("load_finished", 1))


async def test_a_stop_of_a_past_generation_is_done_at_once() -> None:
    async with fleet_at_work() as scene:
        scene.fleet.begin_stop(TINY, Generation(7), grace=GRACE)
        assert scene.reports.of(7) == ["stop_finished"]


async def test_a_stop_of_a_past_generation_leaves_the_present_one_alone() -> None:
    async with fleet_at_work() as scene:
        worker = await scene.load(1)
        worker.process.end(-9)
        worker = await scene.load(2)
        await scene.stop(1)
        assert Stop() not in worker.channel.sent
        assert scene.reports.of(2) == ["load_finished"]


async def test_no_stream_is_opened_on_a_worker_that_has_gone() -> None:
    async with fleet_at_work() as scene:
        with pytest.raises(WorkerLeavingError):
            scene.fleet.open_stream(Lease(TINY, 1), order())


async def test_who_waits_for_a_worker_to_leave_is_told_after_the_scheduler() -> None:
    async with fleet_at_work() as scene, asyncio.TaskGroup() as group:
        worker = await scene.load(1)
        waiting = group.create_task(scene.fleet.left(Lease(TINY, 1)))
        await settle()
        assert not waiting.done()
        worker.process.end(-9)
        await waiting
        assert scene.reports.of(1)[-1] == "memory_returned"
        await scene.fleet.left(Lease(TINY, 1))


async def test_a_second_stop_with_less_time_kills() -> None:
    async with fleet_at_work() as scene:
        worker = await scene.load(1)
        scene.fleet.begin_stop(TINY, Generation(1), grace=Seconds(60))
        await settle()
        assert worker.process.signals == []
        scene.fleet.begin_stop(TINY, Generation(1), grace=Seconds(60))
        assert worker.process.signals == []
        scene.fleet.begin_stop(TINY, Generation(1), grace=Seconds(0))
        assert worker.process.signals == ["KILL"]


async def test_closing_stops_every_worker_and_refuses_new_ones() -> None:
    async with fleet_at_work() as scene:
        await scene.load(1)
        await scene.begin(2)
    assert scene.reports.of(1) == STOPPED
    assert scene.reports.of(2) == STOPPED
    await scene.begin(3)
    assert scene.reports.of(3) == STOPPED
    assert isinstance(scene.reports.value("load_finished", 3), Closing)
    await scene.stop(3)


async def test_a_crash_of_the_daemon_itself_leaves_no_worker() -> None:
    scene = Scene()
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        await fail_at_work(scene)
    assert scene.open_workers == 0


async def fail_at_work(scene: Scene) -> None:
    async with scene.fleet.open(scene.reports):
        await scene.load()
        assert scene.open_workers == 1
        raise RuntimeError("a bug")


LIFE = st.lists(
    st.sampled_from(["hello", "greet", "refuse", "die", "stop", "advance", "end", "gibberish"]),
    max_size=8,
)


@given(st.booleans(), LIFE)
def test_reports_come_in_the_promised_order_whatever_happens(
    can_spawn: bool, life: list[str]
) -> None:
    reports = asyncio.run(_live(can_spawn, life))
    names = reports.of(1)
    assert names.count("load_finished") == 1
    assert names[:1] == ["load_finished"]
    assert names[1] in ("stop_finished", "worker_died")
    assert names[2] == "memory_returned"
    # A stop asked for after the end is answered each time.
    assert set(names[3:]) <= {"stop_finished"}
    kinds = [what for what, *_ in reports.all]
    if "load_progressed" in kinds:
        last = len(kinds) - 1 - kinds[::-1].index("load_progressed")
        assert last < kinds.index("load_finished")
    if isinstance(reports.value("load_finished", 1), ModelFailedToLoad):
        assert names[1] == "stop_finished"


async def _live(can_spawn: bool, life: list[str]) -> FakeReports:
    async with fleet_at_work() as scene:
        if not can_spawn:
            scene.spawn_error = ModelFailedToLoad("no such program")
        await scene.begin()
        for step in life:
            await _happen(scene, step)
    return scene.reports


async def _happen(scene: Scene, step: str) -> None:
    if step == "stop":
        await scene.stop()
    elif step == "advance":
        await scene.timers.advance(400)
    elif scene.workers:
        worker = scene.workers[0]
        match step:
            case "hello":
                worker.channel.say(hello(), Progress(fraction=0.1))
            case "greet":
                worker.greet()
            case "refuse":
                worker.channel.say(LoadFailed(message="no"))
            case "die":
                worker.process.end(-6)
            case "end":
                worker.channel.say(None)
            case "gibberish":
                worker.channel.say(Progress(fraction=7.0))
        await settle()
