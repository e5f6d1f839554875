"""The whole daemon on a machine that runs on battery, and then does not."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.bus_services.power import UPOWER, open_power_service, write_policy
from tests.integration.test_daemon_sleep import unloads_told
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon
from unified_llm.bus.connection import open_connection

pytestmark = [pytest.mark.system, pytest.mark.slow]


def surroundings(daemon: WholeDaemon) -> dict[str, object]:
    found: dict[str, object] = json.loads(daemon.run("unified-llm", "status", "--json").stdout)[
        "surroundings"
    ]
    return found


async def until_property(daemon: WholeDaemon, name: str, value: str) -> None:
    while await asyncio.to_thread(daemon.property, name) != value:
        await asyncio.sleep(0.05)


async def test_idle_models_leave_on_battery_and_stay_on_mains(tmp_path: Path) -> None:
    settings = {"host": {"battery_keep_alive_seconds": 0.1}}
    with open_daemon(settings, policies=(write_policy(tmp_path),)) as daemon:
        assert daemon.bus is not None
        assert surroundings(daemon)["on_battery"] is None
        async with (
            open_connection(daemon.bus.address) as client,
            open_power_service(daemon.bus.address, UPOWER, value=False) as upower,
            asyncio.timeout(PATIENCE),
        ):
            left = await unloads_told(client)
            await until_property(daemon, "OnBattery", "b false")
            loaded = await asyncio.to_thread(daemon.run, "unified-llm", "models", "load", "tiny")
            assert loaded.returncode == 0
            assert len(daemon.workers()) == 1
            upower.set(True)
            await until_property(daemon, "OnBattery", "b true")
            await client.call_bus("GetId")
            assert left == [(True, "battery")]
            while daemon.workers():
                await asyncio.sleep(0.05)
            told = await asyncio.to_thread(surroundings, daemon)
            assert told["on_battery"] is True
            assert "memory_pressure_unwatched" in told
            shown = await asyncio.to_thread(daemon.run, "unified-llm", "status")
            assert "power  battery" in shown.stdout
