"""Models on GPUs that come, fill and go."""

from dataclasses import replace

import pytest

from tests.unit.gguf.published import BGE_LARGE, LLAMA_3_8B, MAMBA_2_8B, Published
from tests.unit.scheduler.scenario import CAT, DOG, GIB, Scenario, make_spec
from unified_llm.domain.devices import DeviceId, DeviceMemory, MemoryReading
from unified_llm.domain.errors import GpuUnusable, ModelFailedToLoad, NoRoom
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import GpuUse, ModelSpec, Speculation
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes
from unified_llm.scheduler.policy import SchedulingPolicy

FIRST, SECOND = DeviceId("fake:0"), DeviceId("fake:1")


def scene_with_gpus(*specs: ModelSpec, gib: tuple[int, ...] = (24,), ram: int = 32) -> Scenario:
    scene = Scenario(*specs, policy=SchedulingPolicy(ram_budget=Bytes(ram * GIB), fill_share=1.0))
    read(scene, *((size, 0) for size in gib))
    return scene


def read(scene: Scenario, *sizes: tuple[int, int], faults: tuple[str, ...] = ()) -> None:
    """GPUs of so many GiB, of which so many are in use."""
    devices = tuple(
        DeviceMemory(DeviceId(f"fake:{index}"), "GPU", Bytes(total * GIB), Bytes(used * GIB))
        for index, (total, used) in enumerate(sizes)
    )
    scene.core.memory_read(MemoryReading(scene.now, devices, faults=faults), {}, scene.now)


def placed(scene: Scenario) -> Placement:
    return scene.effects.loads[-1].placement


def test_a_model_that_fits_goes_to_the_gpu_with_all_its_layers() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8))
    scene.ask(CAT)
    placement = placed(scene)
    assert (placement.gpus, placement.gpu_layers) == ((FIRST,), (4,))
    assert placement.memory[FIRST] > 8 * GIB
    assert placement.ram_bytes < GIB
    assert placement.sacrifices == ()
    assert scene.core.status(CAT).placement == placement


def test_layers_that_do_not_fit_stay_in_main_memory_and_that_is_told() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8), gib=(5,))
    scene.ask(CAT)
    assert placed(scene).gpu_layers == (2,)
    (sentence,) = placed(scene).sacrifices
    assert "2 of 4 layers" in sentence


def test_a_model_is_spread_over_gpus_that_are_too_small_alone() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8), gib=(6, 7))
    scene.ask(CAT)
    assert sum(placed(scene).gpu_layers) == 4
    assert all(placed(scene).gpu_layers)
    assert set(placed(scene).memory) >= {FIRST, SECOND}


def test_nobody_is_evicted_while_another_gpu_has_room() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8), make_spec(DOG, 8), gib=(10, 10))
    scene.keep_idle(CAT)
    scene.ask(DOG)
    assert scene.stopping == []
    assert set(placed(scene).memory) & {FIRST, SECOND} == {SECOND}


def test_an_idle_model_leaves_the_gpu_rather_than_another_computing_in_main_memory() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8), make_spec(DOG, 8), gib=(10,))
    scene.keep_idle(CAT)
    scene.ask(DOG)
    assert scene.stopping == [CAT]
    scene.finish_stop(CAT)
    assert scene.loading == [CAT], "the memory is not seen free yet"
    read(scene, (10, 0))
    assert scene.loading == [CAT, DOG]
    assert placed(scene).gpu_layers == (4,)


def test_memory_a_gone_worker_leaves_behind_is_not_given_out() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8), make_spec(DOG, 8, gpu=GpuUse.REQUIRED), gib=(10,))
    scene.keep_idle(CAT)
    ticket = scene.ask(DOG)
    scene.finish_stop(CAT)
    read(scene, (10, 8))
    assert ticket not in scene.effects.refused, "it may only take a moment"
    scene.wait(scene.policy.memory_return_limit)
    read(scene, (10, 8))
    error = scene.effects.refused[ticket]
    assert isinstance(error, NoRoom)
    assert "Other programs hold 8.4 GiB of fake:0" in error.message


def test_required_without_a_gpu_is_refused_with_the_reason_and_never_computed_elsewhere() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8, gpu=GpuUse.REQUIRED))
    read(scene, faults=("The NVIDIA driver does not answer: GPU is lost.",))
    error = scene.effects.refused[scene.ask(CAT)]
    assert isinstance(error, NoRoom)
    assert "GPU is lost" in error.message
    assert scene.loading == []


def test_required_on_a_full_gpu_is_refused_with_its_numbers() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8, gpu=GpuUse.REQUIRED))
    read(scene, (24, 20))
    error = scene.effects.refused[scene.ask(CAT)]
    assert "3.5 GiB of fake:0" in error.args[0]
    assert "Other programs hold 20.0 GiB of fake:0" in error.args[0]


def test_a_lost_gpu_degrades_what_may_do_without_and_says_so() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8))
    read(scene, faults=("The GPU is lost.",))
    scene.ask(CAT)
    assert placed(scene).gpu_layers == ()
    assert placed(scene).sacrifices == ("No GPU is used. The GPU is lost.",)


def test_a_model_that_shall_not_is_not_computed_on_a_gpu() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8, gpu=GpuUse.OFF))
    scene.ask(CAT)
    assert (placed(scene).gpus, placed(scene).sacrifices) == ((), ())


def test_an_engine_that_sees_no_gpu_is_not_asked_again_and_the_model_degrades_visibly() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8), make_spec(DOG, 8, gpu=GpuUse.REQUIRED))
    ticket = scene.ask(CAT)
    scene.finish_load(CAT, GpuUnusable("This build of the engine sees 0."))
    scene.finish_stop(CAT)
    assert placed(scene).gpu_layers == ()
    assert "sees 0" in placed(scene).sacrifices[0]
    scene.finish_load(CAT)
    assert ticket in scene.effects.granted
    assert "sees 0" in scene.effects.refused[scene.ask(DOG)].args[0]


def test_a_load_that_a_lost_gpu_fails_is_not_tried_elsewhere_and_is_on_gpus_again_later() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8))
    ticket = scene.ask(CAT)
    scene.core.gpus_lost(GpuUnusable("It hums."), scene.now)
    scene.finish_load(CAT, GpuUnusable("This build of the engine sees 0."))
    scene.finish_stop(CAT)
    assert scene.loading == [CAT]
    assert "It hums." in scene.effects.refused[ticket].args[0]
    assert "It hums." in scene.effects.refused[scene.ask(CAT)].args[0]
    scene.core.gpus_lost(None, scene.now)
    scene.ask(CAT)
    assert (scene.loading, placed(scene).sacrifices) == ([CAT, CAT], ())
    assert any(placed(scene).gpu_layers)


def test_required_on_an_engine_that_sees_no_gpu_fails_with_the_reason() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8, gpu=GpuUse.REQUIRED))
    ticket = scene.ask(CAT)
    scene.finish_load(CAT, GpuUnusable("This build of the engine sees 0."))
    scene.finish_stop(CAT)
    error = scene.effects.refused[ticket]
    assert isinstance(error, ModelFailedToLoad)
    assert "sees 0" in error.message
    assert scene.loading == [CAT]


def test_out_of_memory_on_a_gpu_is_tried_once_more_with_less_of_it() -> None:
    scene = scene_with_gpus(make_spec(CAT, 8), gib=(9,))
    scene.ask(CAT)
    first = placed(scene)
    scene.finish_load(CAT, NoRoom("cudaMalloc failed."))
    scene.finish_stop(CAT)
    read(scene, (9, 0))
    second = placed(scene)
    assert second is not first
    assert second.memory[FIRST] <= 0.75 * first.memory[FIRST]
    scene.finish_load(CAT)
    assert scene.state(CAT) is ModelState.READY


@pytest.mark.parametrize(
    ("asked", "profile", "given", "sentences"),
    [
        (Speculation.AUTO, LLAMA_3_8B, Speculation.AUTO, 0),
        (Speculation.OFF, LLAMA_3_8B, Speculation.OFF, 0),
        (Speculation.AUTO, MAMBA_2_8B, Speculation.OFF, 0),
        (Speculation.PROMPT_LOOKUP, MAMBA_2_8B, Speculation.OFF, 1),
        (Speculation.AUTO, BGE_LARGE, Speculation.OFF, 0),
    ],
)
def test_tokens_are_drafted_where_they_can_be_taken_back(
    asked: Speculation, profile: Published, given: Speculation, sentences: int
) -> None:
    spec = replace(make_spec(CAT), profile=profile.profile(), speculation=asked)
    scene = Scenario(spec, policy=SchedulingPolicy(ram_budget=Bytes(64 * GIB)))
    scene.ask(CAT)
    assert placed(scene).speculation is given
    assert sum("drafted" in each for each in placed(scene).sacrifices) == sentences
