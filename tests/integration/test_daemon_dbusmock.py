"""The whole daemon beside a desktop's services that others have written (python-dbusmock)."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from tests.bus_services.dbusmock import LOGIND, PROFILES, UPOWER, MockedService, open_dbusmock
from tests.bus_services.logind import BUS_POLICY
from tests.bus_services.power import write_policy
from tests.integration.test_daemon_sleep import MODELS, ask, committed, running, states
from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon
from unified_llm.bus.values import Variant

pytestmark = [pytest.mark.system, pytest.mark.slow]

# Seconds that logind waits for lock holders.
BUDGET = 20


async def locks(logind: MockedService) -> list[tuple[object, ...]]:
    """What, who and mode of each inhibitor that is held."""
    (held,) = await logind.call("ListInhibitors")
    return [(what, who, mode) for what, who, _, mode, *_ in cast("list[list[object]]", held)]


async def announce(logind: MockedService, *, is_sleep: bool) -> None:
    await logind.set_property("PreparingForSleep", Variant("b", is_sleep))
    await logind.emit("PrepareForSleep", Variant("b", is_sleep))


async def test_a_sleep_that_another_logind_announces_finds_the_memory_empty_and_models_come_back(
    tmp_path: Path,
) -> None:
    """Two models, one of them in the middle of an answer."""
    files = {model: {"path": str(write_tiny_gguf(tmp_path / model))} for model in MODELS}
    settings = {"models": {"directory": None, **files}}
    with open_daemon(settings, policies=(BUS_POLICY,)) as daemon:
        assert daemon.bus is not None
        async with (
            asyncio.timeout(2 * PATIENCE),
            open_dbusmock(daemon.bus, LOGIND) as logind,
            asyncio.TaskGroup() as group,
        ):
            await logind.add_property("InhibitDelayMaxUSec", Variant("t", BUDGET * 1_000_000))
            ours = [("sleep:shutdown", "unified-llm", "delay")]
            while await locks(logind) != ours:
                await asyncio.sleep(0.05)
            for model in MODELS:
                assert await asyncio.to_thread(ask, daemon, model, "Hello?") == "Hello?"
            endless = group.create_task(
                asyncio.to_thread(ask, daemon, "tiny", "!tokens 1000000 !step 0.2")
            )
            while await asyncio.to_thread(running, daemon) == 0:
                await asyncio.sleep(0.05)
            assert len(daemon.workers()) == len(MODELS)
            await announce(logind, is_sleep=True)
            while await locks(logind):
                await asyncio.sleep(0.01)
            assert daemon.workers() == []
            assert await asyncio.to_thread(committed, daemon) == 0
            assert await endless == "draining"
            await announce(logind, is_sleep=False)
            while await locks(logind) != ours:
                await asyncio.sleep(0.05)
            await until_ready(daemon)


def surroundings(daemon: WholeDaemon) -> dict[str, object]:
    with daemon.open_http() as http:
        found: dict[str, object] = http.get("/v1/status").json()["surroundings"]
    return found


async def until_ready(daemon: WholeDaemon) -> None:
    while set((await asyncio.to_thread(states, daemon)).values()) != {"ready"}:
        await asyncio.sleep(0.05)


async def test_the_battery_and_the_power_profile_are_told_as_other_services_tell_them(
    tmp_path: Path,
) -> None:
    with open_daemon(policies=(write_policy(tmp_path),)) as daemon:
        assert daemon.bus is not None

        async def told(*, on_battery: bool, profile: str) -> None:
            wanted = {"on_battery": on_battery, "power_profile": profile}
            while not wanted.items() <= (await asyncio.to_thread(surroundings, daemon)).items():
                await asyncio.sleep(0.1)

        async with (
            asyncio.timeout(PATIENCE),
            open_dbusmock(daemon.bus, UPOWER) as upower,
            open_dbusmock(daemon.bus, PROFILES) as profiles,
        ):
            await told(on_battery=False, profile="balanced")
            await upower.set_property("OnBattery", Variant("b", True))
            await profiles.set_property("ActiveProfile", Variant("s", "power-saver"))
            await told(on_battery=True, profile="power-saver")
