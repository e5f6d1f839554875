"""NVIDIA's library, told by numbers; the real one is asked where there is no GPU."""

import pynvml
import pytest

from tests.fakes.nvml_library import FakeNvml
from unified_llm.domain.devices import ProcessMemory
from unified_llm.domain.units import Bytes
from unified_llm.hardware.nvml import NvmlDriver
from unified_llm.hardware.probe import ProbeOutcome, ReadingFailedError

GIB = 1024**3


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, ProbeOutcome.ABSENT),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, ProbeOutcome.NOT_YET),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, ProbeOutcome.NOT_YET),
        (pynvml.NVML_ERROR_NO_PERMISSION, ProbeOutcome.ABSENT),
        (0, ProbeOutcome.WORKS),
    ],
)
def test_the_probe_tells_never_from_not_yet(error: int, outcome: ProbeOutcome) -> None:
    driver = NvmlDriver(FakeNvml(init_error=error))
    assert driver.probe() is outcome
    driver.close()


def test_gpus_come_in_the_order_of_the_bus() -> None:
    driver = NvmlDriver(FakeNvml())
    driver.probe()
    found = driver.read()
    assert [device.id for device in found] == ["nvml:00000000:01:00.0", "nvml:00000000:41:00.0"]
    assert [device.name for device in found] == ["NVIDIA Test 1", "NVIDIA Test 0"]


def test_what_the_driver_reserves_counts_as_used() -> None:
    driver = NvmlDriver(FakeNvml())
    driver.probe()
    assert {device.used for device in driver.read()} == {4 * GIB}


def test_a_process_in_both_lists_counts_once_and_an_unknown_size_not_at_all() -> None:
    driver = NvmlDriver(FakeNvml())
    driver.probe()
    assert driver.read()[0].processes == (
        ProcessMemory(77, Bytes(512 * 1024**2)),
        ProcessMemory(4242, Bytes(GIB)),
    )


def test_processes_that_are_not_told_are_unknown_not_none() -> None:
    driver = NvmlDriver(FakeNvml(no_processes=pynvml.NVML_ERROR_NOT_SUPPORTED))
    driver.probe()
    assert driver.read()[0].processes is None


def test_a_gpu_tells_its_uuid_and_how_warm_it_is() -> None:
    driver = NvmlDriver(FakeNvml())
    driver.probe()
    assert [(device.uuid, device.temperature) for device in driver.read()] == [
        ("GPU-test-1", 41),
        ("GPU-test-0", 40),
    ]


def test_a_sensor_that_is_not_there_is_unknown_and_the_rest_is_read() -> None:
    driver = NvmlDriver(FakeNvml(no_sensor=pynvml.NVML_ERROR_NOT_SUPPORTED))
    driver.probe()
    assert {(device.temperature, device.used) for device in driver.read()} == {(None, 4 * GIB)}


def test_a_lost_gpu_is_an_error_of_ours_that_names_it() -> None:
    library = FakeNvml()
    driver = NvmlDriver(library)
    driver.probe()
    library.read_error = pynvml.NVML_ERROR_GPU_IS_LOST
    with pytest.raises(ReadingFailedError, match="lost"):
        driver.read()


def test_every_probe_undoes_the_one_before() -> None:
    library = FakeNvml()
    driver = NvmlDriver(library)
    for _ in range(3):
        driver.probe()
    assert library.opened == 1
    driver.close()
    assert library.opened == 0


def test_the_real_library_answers_the_probe_whatever_the_machine() -> None:
    driver = NvmlDriver()
    assert driver.probe() in ProbeOutcome
    driver.close()
