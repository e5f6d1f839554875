import asyncio
from dataclasses import replace

import msgspec
import pytest

from tests.fakes.timers import FakeTimers, settle
from tests.fakes.worker_link import SANDBOX, FakeWorkerLink, hello, loaded
from tests.unit.fleet.asking import PLACEMENT
from unified_llm.domain.devices import RAM, DeviceId
from unified_llm.domain.errors import (
    GpuUnusable,
    ModelFailedToLoad,
    NoRoom,
    UnifiedLlmError,
    WorkerDied,
)
from unified_llm.domain.units import Bytes
from unified_llm.fleet.loading import Serving, load_model, rehearse_model
from unified_llm.worker.protocol import (
    PROTOCOL_VERSION,
    AdapterFile,
    FromWorker,
    Heartbeat,
    Load,
    Loaded,
    LoadFailed,
    NotConfined,
    Progress,
    Rehearse,
    Rehearsed,
    Started,
)

BEAT = Heartbeat(steps_done=0, busy_seconds=0.0, active=0, waiting=0)


async def load(worker: FakeWorkerLink) -> Serving:
    return await load_model(worker.link, PLACEMENT, lambda _: None)


async def failure_after(*said: FromWorker | WorkerDied | None, returncode: int = -9) -> str:
    worker = FakeWorkerLink(FakeTimers())
    worker.channel.say(*said)
    if None in said:
        worker.process.end(returncode)
    with pytest.raises(ModelFailedToLoad) as failure:
        await load(worker)
    return failure.value.message


async def test_a_model_is_loaded_from_the_inherited_descriptor() -> None:
    worker = FakeWorkerLink(FakeTimers())
    progress: list[float] = []
    worker.channel.say(hello(), Progress(fraction=0.0), BEAT, Progress(fraction=1.0), loaded())
    assert await load_model(worker.link, PLACEMENT, progress.append) == Serving(
        loaded(), PLACEMENT, {RAM: Bytes(1000)}, SANDBOX, "fake 0"
    )
    assert progress == [0.0, 1.0]
    assert worker.channel.sent == [
        Load(model="tiny", path="/proc/self/fd/7", context_tokens=512, slots=2, threads=1)
    ]


async def test_adapters_are_loaded_with_their_model() -> None:
    worker = FakeWorkerLink(FakeTimers())
    law = AdapterFile(name="law", path="/proc/self/fd/8", scale=0.5)
    worker.file.adapters_in_worker = (law,)
    worker.channel.say(hello(), loaded())
    await load_model(worker.link, PLACEMENT, lambda _: None)
    (load,) = worker.channel.sent
    assert isinstance(load, Load)
    assert load.adapters == (law,)


async def test_a_placement_is_told_and_what_each_device_gave_comes_back() -> None:
    worker = FakeWorkerLink(FakeTimers())
    placement = replace(
        PLACEMENT,
        cache_type="q8_0",
        gpus=(DeviceId("fake:0"), DeviceId("fake:1")),
        gpu_layers=(0, 3),
        cpu_experts=1,
    )
    said = Loaded(context_tokens=512, slots=2, memory_bytes=5, gpu_bytes=(0, 7, 9), description="")
    worker.channel.say(hello(), said)
    serving = await load_model(worker.link, placement, lambda _: None)
    assert serving.memory == {RAM: 5, DeviceId("fake:1"): 7}, (
        "of a device it has no part of, nothing"
    )
    (load,) = worker.channel.sent
    assert isinstance(load, Load)
    assert (load.cache_type, load.gpu_layers, load.cpu_experts) == ("q8_0", (0, 3), 1)


@pytest.mark.parametrize("kind", [NoRoom, GpuUnusable, ModelFailedToLoad])
async def test_the_kind_of_a_failure_survives_the_way(kind: type[UnifiedLlmError]) -> None:
    worker = FakeWorkerLink(FakeTimers())
    worker.channel.say(hello(), LoadFailed(message="no", code=kind.code))
    with pytest.raises(kind, match="no"):
        await load_model(worker.link, PLACEMENT, lambda _: None)


async def test_what_the_worker_says_of_the_failure_is_passed_on_cleaned() -> None:
    message = await failure_after(hello(), LoadFailed(message="no \x1b room"))
    assert message == "tiny cannot be loaded: no   room"


async def test_a_death_while_loading_is_told_with_its_cause() -> None:
    assert "SIGABRT" in await failure_after(hello(), None, returncode=-6)
    assert "code 77" in await failure_after(None, returncode=77)


async def test_a_worker_without_its_sandbox_is_refused_by_name_with_a_way_out() -> None:
    worker = FakeWorkerLink(FakeTimers())
    worker.channel.say(NotConfined(layer="landlock", reason="Function not implemented"), None)
    with pytest.raises(ModelFailedToLoad, match="landlock is missing") as failure:
        await load(worker)
    assert "worker.sandbox_required" in failure.value.message
    assert worker.channel.sent == []


async def test_a_death_for_want_of_memory_while_loading_is_told_apart() -> None:
    worker = FakeWorkerLink(FakeTimers())
    worker.channel.say(hello(), None)
    worker.process.end(-9, out_of_memory=True)
    with pytest.raises(NoRoom, match="memory ran out"):
        await load(worker)


@pytest.mark.parametrize(
    "boast",
    [
        {"context_tokens": PLACEMENT.context_tokens + 1},
        {"slots": PLACEMENT.slots + 1},
        {"slots": 0},
    ],
    ids=str,
)
async def test_a_worker_can_not_boast_of_more_than_it_was_given(boast: dict[str, int]) -> None:
    told = msgspec.structs.replace(loaded(), **boast)
    assert "while loading" in await failure_after(hello(), told)


async def test_another_protocol_version_is_refused() -> None:
    later = PROTOCOL_VERSION + 1
    assert f"protocol {later}" in await failure_after(hello(version=later))


@pytest.mark.parametrize(
    "said",
    [
        [loaded()],
        [hello(), hello()],
        [hello(), Started(id=1, prompt_tokens=1, cached_tokens=0)],
        [hello(), Progress(fraction=1.5)],
        [hello(), Progress(fraction=float("nan"))],
        [hello(), Loaded(context_tokens=0, slots=1, memory_bytes=None, description="")],
        [hello(), Loaded(context_tokens=1, slots=-1, memory_bytes=None, description="")],
        [hello(), WorkerDied("It broke the protocol.")],
    ],
)
async def test_a_word_out_of_place_fails_the_load(said: list[FromWorker | WorkerDied]) -> None:
    assert "ended while loading" in await failure_after(*said)


async def test_a_file_that_changes_while_it_is_read_fails_the_load() -> None:
    worker = FakeWorkerLink(FakeTimers())
    worker.file.has_changed = True
    worker.greet()
    with pytest.raises(ModelFailedToLoad, match="has changed"):
        await load(worker)


async def test_silence_ends_the_load_and_signs_of_life_prolong_it() -> None:
    timers = FakeTimers()
    worker = FakeWorkerLink(timers)
    worker.channel.say(hello())
    async with asyncio.TaskGroup() as group:
        loading = group.create_task(_expect_failure(worker))
        for _ in range(5):
            await timers.advance(299)
            worker.channel.say(BEAT)
            await settle()
        assert not loading.done()
        await timers.advance(300)
        assert "no sign of life for 300 s" in await loading
    assert worker.process.signals == ["KILL"]


async def _expect_failure(worker: FakeWorkerLink) -> str:
    with pytest.raises(ModelFailedToLoad) as failure:
        await load(worker)
    return failure.value.message


async def test_a_worker_that_closes_its_channel_and_stays_is_killed() -> None:
    timers = FakeTimers()
    worker = FakeWorkerLink(timers)
    worker.channel.say(None)
    async with asyncio.TaskGroup() as group:
        loading = group.create_task(_expect_failure(worker))
        await timers.advance(1.9)
        assert worker.process.signals == []
        await timers.advance(0.2)
        assert "SIGKILL" in await loading


async def test_a_rehearsal_tells_what_a_load_would_take() -> None:
    worker = FakeWorkerLink(FakeTimers())
    said = Rehearsed(cache_bytes=5, working_bytes=7, gpu_working_bytes=(1,))
    worker.channel.say(hello(), said)
    assert await rehearse_model(worker.link, PLACEMENT) == said
    load = Load(model="tiny", path="/proc/self/fd/7", context_tokens=512, slots=2, threads=1)
    assert worker.channel.sent == [Rehearse(load=load)]


@pytest.mark.parametrize(
    "said",
    [LoadFailed(message="no"), loaded(), WorkerDied("It broke."), None],
    ids=["refused", "loaded", "broken", "ended"],
)
async def test_a_rehearsal_that_fails_says_so(said: FromWorker | WorkerDied | None) -> None:
    worker = FakeWorkerLink(FakeTimers())
    worker.channel.say(hello(), said)
    worker.process.end(-9)
    with pytest.raises(ModelFailedToLoad, match="tiny"):
        await rehearse_model(worker.link, PLACEMENT)
