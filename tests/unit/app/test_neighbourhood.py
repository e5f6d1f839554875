"""What the machine tells becomes policy for the models, and is announced."""

import pytest

from unified_llm.app.neighbourhood import Neighbourhood
from unified_llm.domain.devices import RAM, DeviceId, DeviceMemory, MemoryReading
from unified_llm.domain.events import Event, Surroundings, SurroundingsChanged
from unified_llm.domain.units import Bytes, Instant, Seconds
from unified_llm.host.power import Power
from unified_llm.settings.sections.host import HostSettings
from unified_llm.settings.sections.memory import MemorySettings


class Limits:
    """What the scheduler is told."""

    def __init__(self) -> None:
        self.told: list[Seconds | None] = []
        self.reliefs = 0

    def limit_idleness(self, limit: Seconds | None) -> None:
        self.told.append(limit)

    def relieve_memory(self) -> None:
        self.reliefs += 1


def scene(
    host: HostSettings | None = None,
) -> tuple[Neighbourhood, Limits, list[Event]]:
    limits, events = Limits(), list[Event]()

    def sink(event: Event) -> None:
        events.append(event)

    found = Neighbourhood(limits, sink, host or HostSettings(), MemorySettings())
    return found, limits, events


@pytest.mark.parametrize(
    ("power", "host", "limit"),
    [
        (Power(on_battery=True), HostSettings(), 60),
        (Power(on_battery=False), HostSettings(), None),
        (Power(), HostSettings(), None),
        (Power(on_battery=False, profile="power-saver"), HostSettings(), 60),
        (Power(profile="power-saver"), HostSettings(power_saver_is_battery=False), None),
        (Power(profile="balanced"), HostSettings(), None),
        (Power(on_battery=True), HostSettings(battery_keep_alive_seconds=Seconds(5)), 5),
        (Power(on_battery=True), HostSettings(battery_keep_alive_seconds=None), None),
    ],
)
def test_the_settings_decide_what_the_battery_means(
    power: Power, host: HostSettings, limit: float | None
) -> None:
    found, limits, events = scene(host)
    found.on_power(power)
    assert limits.told == [limit]
    assert found._plenty.is_set() is (limit is None)
    expected = Surroundings(on_battery=power.on_battery, power_profile=power.profile)
    assert found.now == expected
    assert events == ([SurroundingsChanged(expected)] if power != Power() else [])


def test_that_models_leave_sooner_is_told_when_it_begins_and_when_it_ends() -> None:
    found, _, _ = scene()
    told: list[tuple[str, bool]] = []
    found.on_unload = lambda reason, begins: told.append((reason, begins))
    for on_battery, profile in (
        (False, None), (True, None), (True, "power-saver"), (False, "power-saver"), (False, None),
    ):  # fmt: skip
        found.on_power(Power(on_battery=on_battery, profile=profile))
    assert told == [("battery", True), ("battery", False)]


def test_pressure_is_passed_on() -> None:
    found, limits, _ = scene()
    found.on_pressure()
    assert limits.reliefs == 1


def test_what_can_not_be_watched_is_told() -> None:
    found, _, events = scene()
    found.on_pressure_unwatched("No file.")
    assert events == [SurroundingsChanged(Surroundings(pressure_unwatched="No file."))]


def test_a_gpu_is_full_until_it_is_well_below() -> None:
    found, _, events = scene()
    for used, is_full in ((84, False), (86, True), (82, True), (80, False), (85, False)):
        found.on_reading(reading(used))
        assert found.now.is_gpu_full is is_full
    assert len(events) == 3
    found.on_reading(MemoryReading(Instant(0), ()))
    assert found.now.is_gpu_full is None


def reading(used: int) -> MemoryReading:
    ram = DeviceMemory(RAM, "RAM", Bytes(100), Bytes(99))
    gpu = DeviceMemory(DeviceId("fake:0"), "GPU", Bytes(100), Bytes(used))
    unknown = DeviceMemory(DeviceId("fake:1"), "GPU", None, None)
    return MemoryReading(Instant(0), (ram, gpu, unknown))
