"""The trial of the GPUs finds out what the drivers' lists do not tell."""

import ctypes
import json
from pathlib import Path
from typing import Any

import pytest

from unified_llm.hardware import gpu_trial
from unified_llm.hardware.gpu_trial import try_gpus

GPU = {"id": "nvml:0", "name": "GPU", "total_bytes": 2**30, "foreign_bytes": 0}


class FakeCuda:
    """CUDA with one device. fails: the call that does, with error 719. forgets: what is written."""

    def __init__(self, *, fails: str = "", forgets: bool = False) -> None:
        self._fails = fails
        self._forgets = forgets
        self._word = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self._fails:
                return 719
            match name:
                case "cuDeviceGetCount":
                    arguments[0]._obj.value = 1
                case "cuMemsetD32_v2" if not self._forgets:
                    self._word = arguments[1].value
                case "cuMemcpyDtoH_v2":
                    arguments[0]._obj.value = self._word
            return 0

        return call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "devices.json"
    found.write_text(json.dumps({"devices": [GPU]}))
    return found


def test_devices_that_answer_are_listed(file: Path) -> None:
    assert try_gpus("fake", file, None) == {"devices": ["nvml:0"], "faults": []}
    assert try_gpus("fake", file, FakeCuda()) == {"devices": ["nvml:0"], "faults": []}


def test_a_driver_that_does_not_answer_is_a_fault(file: Path) -> None:
    file.write_text("nothing")
    found = try_gpus("fake", file, None)
    assert found["devices"] == []
    assert "does not describe devices" in found["faults"][0]


@pytest.mark.parametrize(
    ("cuda", "fault"),
    [
        (FakeCuda(fails="cuInit"), "CUDA does not start (error 719)."),
        (FakeCuda(fails="cuDeviceGetCount"), "CUDA does not count its devices (error 719)."),
        (FakeCuda(fails="cuDevicePrimaryCtxRetain"), "CUDA can not use device 0 (error 719)."),
        (FakeCuda(fails="cuMemAlloc_v2"), "CUDA can not use device 0 (error 719)."),
        (FakeCuda(forgets=True), "CUDA can not use device 0 (error -1)."),
    ],
)
def test_a_gpu_that_is_listed_and_can_not_compute_is_a_fault(
    cuda: FakeCuda, fault: str, file: Path
) -> None:
    assert try_gpus("fake", file, cuda)["faults"] == [fault]


def test_without_nvidias_devices_cuda_is_left_alone(file: Path) -> None:
    file.write_text(json.dumps({"devices": [GPU | {"id": "fake:0"}]}))
    assert try_gpus("fake", file, FakeCuda(fails="cuInit"))["faults"] == []


def test_the_program_writes_what_it_found(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu_trial.main(["none", str(file)])
    assert json.loads(capsys.readouterr().out) == {"devices": [], "faults": []}
    assert isinstance(gpu_trial._library(), ctypes.CDLL | None)
