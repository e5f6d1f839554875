"""Whatever a trial does, the daemon goes on, and knows what to think of the GPUs."""

import sys
from pathlib import Path

import pytest

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.units import Seconds
from unified_llm.hardware.gpu_check import GpuCheck

ONE, TWO = DeviceId("fake:1"), DeviceId("fake:2")


def check_of(script: str, limit: float = 60) -> GpuCheck:
    """A trial that runs `script`."""
    return GpuCheck(
        "fake", Path("/none"), limit=Seconds(limit), command=(sys.executable, "-I", "-c", script)
    )


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ('print(\'{"devices": ["fake:1", "fake:2"], "faults": []}\')', None),
        (
            'print(\'{"devices": ["fake:1"], "faults": []}\')',
            "No driver shows fake:2 any more.",
        ),
        (
            'print(\'{"devices": [], "faults": ["It hums."]}\')',
            "No driver shows fake:1, fake:2 any more. It hums.",
        ),
        ("print('nonsense')", "The trial said nothing that can be read."),
        ("print('[]')", "The trial said nothing that can be read."),
        ("import os; os.abort()", "The trial ended with status -6."),
    ],
)
async def test_the_answer_is_judged(script: str, fault: str | None) -> None:
    assert await check_of(script)({ONE, TWO}) == fault


async def test_a_trial_that_hangs_is_ended() -> None:
    check = check_of("import time; time.sleep(600)", limit=0.2)
    assert await check({ONE}) == "The trial did not end within 0.2 s."


async def test_a_trial_that_can_not_be_started_is_told() -> None:
    check = GpuCheck("fake", Path("/none"), command=("/no/such/program",))
    assert await check({ONE}) == "They could not be tried: No such file or directory."
