"""GPUs as they were last read."""

from tests.fakes.memory import GIB, FakeMemory
from unified_llm.domain.devices import DeviceId, DeviceMemory
from unified_llm.domain.units import Bytes, Instant
from unified_llm.operations.devices import Devices, Gpu

FIRST = DeviceMemory(DeviceId("nvml:0"), "First", Bytes(8 * GIB), Bytes(GIB))
SECOND = DeviceMemory(DeviceId("nvml:1"), "Second", Bytes(8 * GIB), Bytes(0))


async def test_before_a_reading_there_are_none_and_main_memory_is_none() -> None:
    memory = FakeMemory([])
    devices = Devices(memory, dict)
    assert devices.gpus == ()
    await devices.look()
    assert devices.gpus == ()


async def test_each_gpu_has_its_number_whichever_of_them_answer() -> None:
    memory = FakeMemory([FIRST, SECOND])
    devices = Devices(memory, lambda: {SECOND.id: Bytes(7)})
    await devices.look()
    first, second = Gpu(0, FIRST, Bytes(0), Instant(0)), Gpu(1, SECOND, Bytes(7), Instant(0))
    assert list(devices.gpus) == [first, second]
    memory.gpus = [SECOND]
    await devices.look()
    assert list(devices.gpus) == [second]
    memory.gpus = [SECOND, FIRST]
    await devices.look()
    assert list(devices.gpus) == [first, second]


async def test_each_reading_is_told() -> None:
    devices = Devices(FakeMemory([FIRST]), dict)
    told: list[int] = []
    devices.on_change = lambda: told.append(len(devices.gpus))
    await devices.look()
    assert told == [1]
