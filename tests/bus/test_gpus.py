"""GPUs as objects."""

import json
from pathlib import Path
from typing import cast

import pytest

from tests.bus.front_door import FrontDoor, open_front_door
from tests.fakes.house import GIB
from tests.private_bus import PrivateBus
from tests.whole_daemon import WholeDaemon, open_daemon
from unified_llm.bus.names import BUS_NAME, GPU_INTERFACE, ROOT_PATH, gpu_path
from unified_llm.domain.devices import DeviceId, DeviceMemory
from unified_llm.domain.units import Bytes

pytestmark = [pytest.mark.system, pytest.mark.slow]

GPU = DeviceMemory(
    DeviceId("nvml:0"), "A GPU", Bytes(8 * GIB), Bytes(GIB), uuid="GPU-7", temperature=47
)


async def properties(front: FrontDoor, number: int, *names: str) -> str:
    path = gpu_path(number)
    found = await front.run("busctl", "get-property", BUS_NAME, path, GPU_INTERFACE, *names)
    return (found.stdout + found.stderr).strip()


async def test_a_gpu_is_an_object_while_its_driver_answers(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus) as front:
        front.house.memory.gpus = [GPU]
        assert "There is no object at" in await properties(front, 0, "Name")
        await front.house.devices.look()
        assert await properties(front, 0, "Index", "Id", "Name", "VramTotal") == (
            f'u 0\ns "nvml:0"\ns "A GPU"\nt {8 * GIB}'
        )
        assert await properties(front, 0, "VramUsed", "VramFree") == f"t {GIB}\nt {7 * GIB}"
        assert await properties(front, 0, "Uuid", "Temperature") == 's "GPU-7"\ni 47'
        front.house.memory.gpus = []
        await front.house.devices.look()
        assert "There is no object at" in await properties(front, 0, "Name")


async def test_what_a_driver_keeps_to_itself_can_not_be_mistaken_for_a_reading(
    shared_bus: PrivateBus,
) -> None:
    async with open_front_door(shared_bus) as front:
        await front.house.devices.look()
        assert await properties(front, 0, "VramTotal", "VramUsed", "VramFree") == "t 0\nt 0\nt 0"
        assert await properties(front, 0, "Uuid", "Temperature") == 's ""\ni -2147483648'


def managed(daemon: WholeDaemon) -> int:
    found = daemon.run(
        *("busctl", "get-property", "--json=short", BUS_NAME, gpu_path(0), GPU_INTERFACE),
        *("VramManaged", "VramFree"),
    )
    ours, free = (json.loads(line)["data"] for line in found.stdout.splitlines())
    assert ours + free <= 4 * GIB
    return cast("int", ours)


def test_the_memory_of_a_model_is_managed_on_its_gpu(
    tmp_path: Path,
) -> None:
    file = tmp_path / "devices.json"
    described = {"id": "fake:0", "name": "Fake", "total_bytes": 4 * GIB, "foreign_bytes": 0}
    file.write_text(json.dumps({"devices": [described]}))
    hardware = {"driver": "fake", "fake_file": str(file), "interval_seconds": 0.1}
    with open_daemon({"hardware": hardware}) as daemon:
        # Health is read with the devices, so this waits for the first reading.
        daemon.run("unified-llm", "status")
        assert managed(daemon) == 0
        tree = daemon.run("busctl", "tree", BUS_NAME).stdout
        assert f"{ROOT_PATH}/gpu/0" in tree
        daemon.run("unified-llm", "models", "load", "tiny")
        assert managed(daemon) > 0
