"""What every MemoryDriver promises, whatever it measures by."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.nvml_library import FakeNvml
from unified_llm.domain.devices import DeviceId
from unified_llm.domain.units import Bytes
from unified_llm.hardware.amdgpu import AmdgpuDriver
from unified_llm.hardware.fake import FakeDriver
from unified_llm.hardware.intel import IntelDriver
from unified_llm.hardware.nvml import NvmlDriver
from unified_llm.hardware.probe import MemoryDriver, ProbeOutcome, ReadingFailedError
from unified_llm.hardware.ram import RamDriver

CAPTURED = Path(__file__).parents[1] / "captured"
GIB = 1024**3

Make = Callable[[Path], tuple[MemoryDriver, Callable[[], None]]]
"""Makes a driver whose devices are there, and what takes them away."""


def make_nvml(_: Path) -> tuple[MemoryDriver, Callable[[], None]]:
    library = FakeNvml()
    return NvmlDriver(library), lambda: setattr(library, "read_error", 15)  # GPU_IS_LOST


def make_amdgpu(folder: Path) -> tuple[MemoryDriver, Callable[[], None]]:
    tree = copied("amdgpu", folder)
    return AmdgpuDriver(tree / "sys", tree / "proc"), lambda: shutil.rmtree(tree / "sys/class")


def make_xe(folder: Path) -> tuple[MemoryDriver, Callable[[], None]]:
    tree = copied("xe", folder)
    return IntelDriver("xe", tree / "sys", tree / "proc"), lambda: shutil.rmtree(tree / "sys/class")


def make_i915(folder: Path) -> tuple[MemoryDriver, Callable[[], None]]:
    tree = copied("i915", folder)
    driver = IntelDriver("i915", tree / "sys", tree / "proc")
    return driver, lambda: shutil.rmtree(tree / "sys/class")


def make_ram(folder: Path) -> tuple[MemoryDriver, Callable[[], None]]:
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    meminfo = proc / "meminfo"
    meminfo.write_text("MemTotal: 16384000 kB\nMemFree: 1000 kB\nMemAvailable: 8192000 kB\n")
    return RamDriver(proc, folder / "cgroup"), meminfo.unlink


def make_fake(folder: Path) -> tuple[MemoryDriver, Callable[[], None]]:
    file = folder / "devices.json"
    device = {"id": "fake:0", "name": "Fake", "total_bytes": 24 * GIB, "foreign_bytes": GIB}
    file.write_text(json.dumps({"devices": [device]}))
    return FakeDriver(file, lambda: {DeviceId("fake:0"): Bytes(2 * GIB)}), file.unlink


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(CAPTURED / name, folder / name, symlinks=True))


MAKERS = [make_nvml, make_amdgpu, make_xe, make_i915, make_ram, make_fake]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__.removeprefix("make_"))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[MemoryDriver, Callable[[], None]]:
    found: tuple[MemoryDriver, Callable[[], None]] = request.param(tmp_path)
    return found


Made = tuple[MemoryDriver, Callable[[], None]]


def test_a_driver_that_works_reads_devices(made: Made) -> None:
    driver, _ = made
    assert driver.probe() is ProbeOutcome.WORKS
    assert driver.read()
    driver.close()


def test_devices_keep_their_names_and_their_order(made: Made) -> None:
    driver, _ = made
    driver.probe()
    first, second = driver.read(), driver.read()
    assert [device.id for device in first] == [device.id for device in second]
    assert len({device.id for device in first}) == len(first)
    assert all(device.name for device in first)
    driver.close()


def test_a_known_number_is_within_bounds_and_free_is_the_rest(made: Made) -> None:
    driver, _ = made
    driver.probe()
    for device in driver.read():
        if device.total is None or device.used is None:
            assert device.free is None
        else:
            assert 0 <= device.used <= device.total
            assert device.free == device.total - device.used
        assert all(process.used >= 0 for process in device.processes or ())
    driver.close()


def test_devices_that_vanish_fail_the_reading_by_name(made: Made) -> None:
    driver, take_away = made
    driver.probe()
    take_away()
    with pytest.raises(ReadingFailedError, match=r"\w"):
        driver.read()
    driver.close()


def test_a_failed_driver_may_be_probed_again_and_closed_twice(made: Made) -> None:
    driver, take_away = made
    driver.probe()
    take_away()
    with pytest.raises(ReadingFailedError):
        driver.read()
    driver.close()
    assert driver.probe() in ProbeOutcome
    driver.close()
    driver.close()
