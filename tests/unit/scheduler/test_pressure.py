"""Other programs fill a GPU: models shrink or leave, and come back."""

from tests.unit.scheduler.scenario import CAT, DOG, GIB, Scenario, make_spec
from unified_llm.domain.devices import DeviceId, DeviceMemory, MemoryReading
from unified_llm.domain.events import Move
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import GpuUse, ModelSpec
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.scheduler.policy import SchedulingPolicy

GPU = DeviceId("fake:0")


class Pressed(Scenario):
    """A GPU of 24 GiB, read every second, of which another program holds what a test says."""

    def __init__(self, *specs: ModelSpec) -> None:
        super().__init__(*specs, policy=SchedulingPolicy(ram_budget=Bytes(32 * GIB)))
        self.read(0)

    def read(self, foreign_gib: float) -> None:
        held = self.core.memory_held().get(GPU, 0)
        used = Bytes(int(foreign_gib * GIB) + held)
        device = DeviceMemory(GPU, "GPU", Bytes(24 * GIB), used)
        self.core.memory_read(MemoryReading(self.now, (device,)), {}, self.now)

    def pass_time(self, seconds: int, foreign_gib: float) -> None:
        """Readings come, and workers go when they are told to."""
        for _ in range(seconds):
            self.wait(1)
            self.read(foreign_gib)
            for status in self.core.statuses():
                if status.state is ModelState.STOPPING:
                    self.finish_stop(status.id)


def low(gpu: GpuUse = GpuUse.REQUIRED) -> ModelSpec:
    return make_spec(CAT, 8, priority=10, gpu=gpu)


def high() -> ModelSpec:
    return make_spec(DOG, 8, priority=90, gpu=GpuUse.REQUIRED)


def test_the_low_priority_leaves_within_two_seconds_and_comes_back_after() -> None:
    scene = Pressed(low(), high())
    scene.keep_idle(CAT)
    scene.keep_idle(DOG)
    scene.pass_time(2, 0.3 * 24)
    assert scene.state(CAT) is ModelState.AVAILABLE
    assert scene.state(DOG) is ModelState.READY
    code, why = scene.core.status(CAT).last_error or ("", "")
    assert code == "no-room"
    assert "other programs hold 7.2 GiB of fake:0" in why
    scene.pass_time(30, 0.3 * 24)
    assert scene.state(CAT) is ModelState.AVAILABLE
    assert scene.core.is_occupied, "somebody must go on reading"
    scene.pass_time(2, 0)
    assert scene.state(CAT) is ModelState.LOADING
    scene.finish_load(CAT)
    assert scene.core.status(CAT).last_error is None
    assert [(each.model, each.move, each.why) for each in scene.effects.moves] == [
        (CAT, Move.MAKE_WAY, "cat makes way: other programs hold 7.2 GiB of fake:0."),
        (CAT, Move.COME_BACK, "cat comes back: other programs hold 0 B of fake:0."),
    ]


def test_sixty_percent_of_another_program_make_a_model_shrink_that_may_and_grow_back() -> None:
    scene = Pressed(low(GpuUse.AUTO))
    scene.keep_idle(CAT)
    assert scene.effects.loads[-1].placement.gpu_layers == (4,)
    scene.pass_time(2, 0.6 * 24)
    assert scene.state(CAT) is ModelState.LOADING
    scene.finish_load(CAT)
    assert scene.effects.loads[-1].placement.offloaded < 4
    assert scene.effects.loads[-1].placement.sacrifices
    scene.pass_time(2, 0)
    scene.finish_load(CAT)
    assert scene.effects.loads[-1].placement.gpu_layers == (4,)
    loads = len(scene.effects.loads)
    scene.pass_time(30, 0)
    assert len(scene.effects.loads) == loads


def test_a_use_between_the_thresholds_moves_nobody() -> None:
    scene = Pressed(low())
    scene.keep_idle(CAT)
    scene.pass_time(5, 0.85 * 24 - 8.6)
    assert scene.state(CAT) is ModelState.READY
    scene.pass_time(2, 0.85 * 24 - 8.4)
    assert scene.state(CAT) is ModelState.AVAILABLE
    scene.pass_time(5, 0.85 * 24 - 8.6)
    assert scene.state(CAT) is ModelState.AVAILABLE, "not before the use is well below"


def test_a_pinned_model_stays_and_one_in_use_ends_what_it_has() -> None:
    pinned = make_spec(DOG, 8, pinned=True, gpu=GpuUse.REQUIRED)
    scene = Pressed(low(), pinned)
    lease = scene.serve(CAT)
    scene.keep_idle(DOG)
    scene.pass_time(2, 0.6 * 24)
    assert scene.state(DOG) is ModelState.READY
    assert scene.state(CAT) is ModelState.DRAINING
    scene.give_back(lease)
    assert scene.state(CAT) is ModelState.STOPPING


def test_one_unloaded_by_hand_does_not_come_back() -> None:
    scene = Pressed(low(GpuUse.AUTO))
    scene.keep_idle(CAT)
    scene.pass_time(2, 0.6 * 24)
    scene.finish_load(CAT)
    scene.unload(CAT)
    scene.finish_stop(CAT)
    scene.pass_time(10, 0)
    assert scene.state(CAT) is ModelState.AVAILABLE


def test_what_had_to_make_way_does_not_come_back_while_the_daemon_closes() -> None:
    scene = Pressed(low(GpuUse.AUTO))
    lease = scene.serve(CAT)
    scene.pass_time(2, 0.6 * 24)
    scene.core.closing(Seconds(5), scene.now)
    scene.give_back(lease)
    scene.pass_time(2, 0)
    assert len(scene.loading) == 1
    assert scene.is_closed()
