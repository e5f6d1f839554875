"""Sleeps, announced or not, and GPUs that do not come back from them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.house import GIB, TINY, make_scheduler, make_spec
from tests.fakes.workers import FakeWorkers
from unified_llm.app.asleep import ModelsAsleep
from unified_llm.app.gpu_loss import GpuLoss
from unified_llm.domain.devices import RAM, DeviceId, DeviceMemory, MemoryReading
from unified_llm.domain.errors import GpuUnusable
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.operations.watch import Watch

GPU = DeviceId("fake:0")
LIMIT = Seconds(60)


class Scene:
    """A scheduler with a GPU, a check of it that answers `fault`, and a machine that slept."""

    def __init__(self, *, is_refusing: bool = True, has_gpu: bool = True) -> None:
        self.clock, self.workers = FakeClock(), FakeWorkers(obedient=True)
        self.scheduler = make_scheduler(self.clock, self.workers, Watch())
        self.workers.reports = self.scheduler
        self.scheduler.replace_catalogue({TINY: make_spec(TINY)})
        self.fault: str | None = None
        self.is_shown = has_gpu
        self.checked: list[frozenset[DeviceId]] = []
        self.slept = 100.0
        self.plenty = asyncio.Event()
        self.plenty.set()
        self.told: list[str | None] = []
        self.gpus = GpuLoss(
            self.scheduler,
            self.check,
            self.take_reading,
            is_refusing=is_refusing,
            on_change=self.told.append,
        )
        self.asleep = ModelsAsleep(
            self.scheduler,
            self.gpus,
            is_reloading=True,
            load_limit=LIMIT,
            suspended_time=lambda: Seconds(self.slept),
            plenty=self.wait_for_plenty,
            look=Seconds(3600),
        )
        self.read()

    def read(self) -> MemoryReading:
        """The machine has 8 GiB of memory, and a GPU of 8 GiB as long as its driver shows it."""
        devices = [DeviceMemory(RAM, "RAM", Bytes(8 * GIB), Bytes(0))]
        if self.is_shown:
            devices.append(DeviceMemory(GPU, "GPU", Bytes(8 * GIB), Bytes(0)))
        faults = () if self.is_shown else ("The driver is silent.",)
        reading = MemoryReading(self.clock.now(), tuple(devices), faults=faults)
        self.gpus.on_reading(reading)
        self.scheduler.memory_read(reading, {})
        return reading

    async def take_reading(self) -> MemoryReading:
        """One that somebody asks for."""
        return self.read()

    async def wait_for_plenty(self) -> None:
        await self.plenty.wait()

    async def check(self, expected: Collection[DeviceId]) -> str | None:
        self.checked.append(frozenset(expected))
        return self.fault

    async def load(self) -> None:
        await self.scheduler.ensure_loaded(TINY, "uid:0", timeout=LIMIT)

    @property
    def state(self) -> ModelState:
        return self.scheduler.status(TINY).state

    async def seeing_free(self, leaving: Coroutine[object, object, None]) -> None:
        """Models leave, and then a reading shows it."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(leaving)
            while not task.done():
                await asyncio.sleep(0)
                self.read()

    async def fall_asleep(self, *, is_shutdown: bool = False) -> None:
        await self.seeing_free(self.asleep.before_sleep(LIMIT, is_shutdown=is_shutdown))

    async def sleep(self) -> None:
        """Announced, and over."""
        await self.fall_asleep()
        self.slept += 1000
        self.read()
        self.asleep.after_sleep()

    async def until(self, state: ModelState) -> None:
        await self.holds(lambda: self.state is state)

    async def holds(self, wanted: Callable[[], bool]) -> None:
        """Wait until it does."""
        async with asyncio.timeout(30):
            while not wanted():
                await asyncio.sleep(0)


@asynccontextmanager
async def at_work(scene: Scene) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in (scene.scheduler.run(), scene.asleep.run())]
        yield
        for task in tasks:
            task.cancel()


async def test_models_come_back_when_their_gpu_has_been_tried() -> None:
    scene = Scene()
    async with at_work(scene):
        await scene.load()
        await scene.sleep()
        await scene.until(ModelState.READY)
        assert scene.checked == [{GPU}]
        assert scene.asleep.complaints == ()


async def test_a_lost_gpu_refuses_its_models_until_it_works() -> None:
    scene = Scene()
    async with at_work(scene):
        await scene.load()
        scene.fault = "It hums."
        await scene.sleep()
        with pytest.raises(GpuUnusable, match="since the machine slept: It hums"):
            await scene.load()
        assert scene.asleep.complaints == (scene.gpus.complaint,)
        scene.fault = None
        await scene.seeing_free(scene.asleep._look_around())
        scene.read()
        await scene.load()
        assert scene.told == ["GPUs do not work since the machine slept: It hums.", None]
        assert not scene.asleep.complaints


async def test_a_gpu_that_is_lost_while_awake_refuses_at_once_and_is_tried() -> None:
    scene, seen = Scene(), "GPUs do not work: No driver shows fake:0 any more."
    scene.fault = "It hums."
    async with at_work(scene):
        scene.is_shown = False
        scene.read()
        assert scene.told == [f"{seen} The driver is silent."]
        with pytest.raises(GpuUnusable, match="The driver is silent"):
            await scene.load()
        await scene.holds(lambda: scene.gpus.complaint == "GPUs do not work: It hums.")
        scene.read()
        # By the trial it works, and no reading shows it.
        scene.fault = None
        await scene.asleep._look_around()
        assert scene.gpus.complaint == seen
        scene.is_shown = True
        scene.read()
        await scene.holds(lambda: not scene.asleep.complaints)
        assert scene.told[1:] == ["GPUs do not work: It hums.", seen, None]
        assert scene.checked == [{GPU}] * 3
        await scene.load()
        placement = scene.scheduler.status(TINY).placement
        assert placement is not None
        assert placement.gpus == (GPU,)


async def test_a_model_that_is_on_a_gpu_when_it_is_lost_goes_on() -> None:
    scene = Scene()
    async with at_work(scene):
        await scene.load()
        scene.fault, scene.is_shown = "It hums.", False
        scene.read()
        await scene.holds(lambda: len(scene.told) == 2)
        await scene.load()
        assert (scene.state, scene.workers.stopped) == (ModelState.READY, [])


async def test_a_driver_that_was_silent_once_costs_one_trial() -> None:
    scene = Scene()
    async with at_work(scene):
        scene.is_shown = False
        scene.read()
        scene.is_shown = True
        await scene.holds(lambda: not scene.asleep.complaints)
        scene.read()
        await asyncio.sleep(0)
        assert scene.checked == [{GPU}]
        await scene.load()


async def test_whoever_waited_through_the_sleep_is_refused_too() -> None:
    scene = Scene()
    async with at_work(scene):
        await scene.load()
        await scene.fall_asleep()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(refused(scene))
            await scene.until(ModelState.QUEUED)
            scene.fault = "It hums."
            scene.asleep.after_sleep()
        assert "It hums" in waiting.result()


async def refused(scene: Scene) -> str:
    with pytest.raises(GpuUnusable) as caught:
        await scene.load()
    return str(caught.value)


async def test_the_settings_may_have_models_loaded_on_what_is_left() -> None:
    scene = Scene(is_refusing=False)
    async with at_work(scene):
        await scene.load()
        await scene.fall_asleep()
        scene.fault, scene.is_shown = "It hums.", False
        scene.read()
        scene.asleep.after_sleep()
        await scene.until(ModelState.READY)
        assert scene.told[-1] == "GPUs do not work since the machine slept: It hums."
        placement = scene.scheduler.status(TINY).placement
        assert placement is not None
        assert placement.gpus == ()


async def test_a_sleep_that_nobody_announced_is_treated_like_one_afterwards() -> None:
    scene = Scene()
    async with at_work(scene):
        await scene.load()
        scene.slept += 0.5  # two clocks are not read at once
        await scene.seeing_free(scene.asleep._look_around())
        assert scene.checked == []
        scene.slept += 1000
        await scene.seeing_free(scene.asleep._look_around())
        assert scene.checked == [{GPU}]
        assert len(scene.workers.stopped) == 1
        await scene.until(ModelState.READY)
        assert len(scene.workers.begun) == 2
        await scene.seeing_free(scene.asleep._look_around())
        assert scene.checked == [{GPU}]


async def test_an_announced_sleep_is_not_found_again_by_the_clocks() -> None:
    scene = Scene()
    async with at_work(scene):
        await scene.load()
        await scene.sleep()
        await scene.until(ModelState.READY)
        await scene.seeing_free(scene.asleep._look_around())
        assert scene.checked == [{GPU}]


async def test_a_second_sleep_during_the_trial_keeps_the_memory_empty() -> None:
    scene = Scene()
    async with at_work(scene):
        await scene.load()
        await scene.sleep()
        await scene.fall_asleep(is_shutdown=True)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not scene.state.has_worker
        assert "shut down" in scene.asleep.complaints[0]
        scene.asleep.after_sleep()
        await scene.until(ModelState.READY)


async def test_a_machine_without_gpus_has_nothing_to_try() -> None:
    scene = Scene(has_gpu=False)
    async with at_work(scene):
        await scene.fall_asleep()
        scene.asleep.after_sleep()
        await scene.load()
        assert scene.checked == []


class Locks:
    """What programs hold."""

    def __init__(self, *, is_unload_blocked: bool = False) -> None:
        self.is_unload_blocked = is_unload_blocked
        self.delayed = "suspend-unload"
        self.free = asyncio.Event()

    async def undelayed(self) -> None:
        await self.free.wait()


async def test_a_program_that_needs_time_gets_some() -> None:
    scene, locks = Scene(), Locks()
    scene.asleep.locks = locks
    async with at_work(scene), asyncio.TaskGroup() as group:
        await scene.load()
        falling = group.create_task(scene.fall_asleep())
        for _ in range(20):
            await asyncio.sleep(0)
        assert scene.state is ModelState.READY
        locks.free.set()
        await falling
        assert not scene.state.has_worker


async def test_a_program_that_takes_too_long_is_not_waited_for() -> None:
    scene = Scene()
    scene.asleep.locks = Locks()
    async with at_work(scene):
        await scene.load()
        await scene.seeing_free(scene.asleep.before_sleep(Seconds(0.2), is_shutdown=False))
        assert not scene.state.has_worker


async def test_models_that_were_kept_on_a_gpu_are_loaded_anew_after_the_sleep() -> None:
    scene = Scene()
    scene.asleep.locks = Locks(is_unload_blocked=True)
    async with at_work(scene):
        await scene.load()
        await scene.asleep.before_sleep(LIMIT, is_shutdown=False)
        assert scene.state is ModelState.READY
        scene.slept += 1000
        scene.asleep.after_sleep()
        while len(scene.workers.begun) < 2:
            await asyncio.sleep(0)
            scene.read()
        assert scene.checked == [{GPU}]


async def test_on_battery_models_come_back_when_they_are_asked_for() -> None:
    scene = Scene()
    scene.plenty.clear()
    async with at_work(scene):
        await scene.load()
        await scene.sleep()
        for _ in range(50):
            await asyncio.sleep(0)
        assert scene.checked == [{GPU}]
        assert not scene.state.has_worker
        scene.plenty.set()
        await scene.until(ModelState.READY)


async def test_a_shutdown_that_is_called_off_after_a_kept_sleep_lets_models_load_again() -> None:
    scene, locks = Scene(), Locks(is_unload_blocked=True)
    scene.asleep.locks = locks
    async with at_work(scene):
        await scene.load()
        await scene.asleep.before_sleep(LIMIT, is_shutdown=False)
        scene.asleep.after_sleep()
        locks.is_unload_blocked = False
        locks.free.set()
        await scene.fall_asleep(is_shutdown=True)
        scene.asleep.after_sleep()
        await scene.until(ModelState.READY)


async def test_it_is_suspending_from_the_first_word_until_models_may_be_loaded() -> None:
    scene, seen = Scene(), list[bool]()
    scene.asleep.on_change = lambda: seen.append(scene.asleep.is_suspending)
    async with at_work(scene):
        await scene.load()
        await scene.sleep()
        assert seen == [True, True]
        await scene.until(ModelState.READY)
        assert seen == [True, True, False]
        seen.clear()
        await scene.fall_asleep(is_shutdown=True)
        assert seen == [False, False]


async def test_models_that_a_program_keeps_do_not_suspend_the_daemon() -> None:
    scene = Scene()
    scene.asleep.locks = Locks(is_unload_blocked=True)
    async with at_work(scene):
        await scene.load()
        await scene.asleep.before_sleep(LIMIT, is_shutdown=False)
        assert not scene.asleep.is_suspending
