"""Which drivers a setting means."""

from pathlib import Path

import pytest

from unified_llm.hardware.drivers import choose_drivers


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("auto", ["ram", "nvml", "amdgpu", "xe", "i915"]),
        ("none", ["ram"]),
        ("fake", ["ram", "fake"]),
        ("nvml", ["ram", "nvml"]),
        ("i915", ["ram", "i915"]),
    ],
)
def test_main_memory_comes_first_and_then_what_is_wanted(wanted: str, names: list[str]) -> None:
    found = choose_drivers(wanted, Path("/nowhere"), dict)
    assert [driver.name for driver in found] == names
