"""The whole daemon around a sleep of the machine that logind announces."""

import asyncio
import json
import time
from pathlib import Path
from typing import cast

import pytest

from tests.bus_services.logind import BUS_POLICY, FakeLogind, open_logind
from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon, write_devices
from unified_llm.bus.connection import BusConnection, Signal, open_connection
from unified_llm.bus.names import BUS_NAME, MANAGER_INTERFACE, PROPERTIES_INTERFACE, ROOT_PATH
from unified_llm.bus.values import unwrap

pytestmark = [pytest.mark.system, pytest.mark.slow]

MODELS = ("tiny", "other")
GPU = {"id": "fake:0", "name": "Fake GPU", "total_bytes": 24 * 2**30, "foreign_bytes": 0}
# Seconds that logind waits for lock holders.
BUDGET = 20


def ask(daemon: WholeDaemon, model: str, content: str) -> str:
    """The answer, or the code of the error that ends it."""
    messages = [{"role": "user", "content": content}]
    with daemon.open_http() as http:
        body = http.post("/v1/chat/completions", json={"model": model, "messages": messages}).json()
    text: str = (
        body["error"]["code"] if "error" in body else body["choices"][0]["message"]["content"]
    )
    return text


def states(daemon: WholeDaemon) -> dict[str, str]:
    with daemon.open_http() as http:
        listed = http.get("/v1/models").json()["data"]
    return {model["id"]: model["x_unified_llm"]["state"] for model in listed}


def degraded(daemon: WholeDaemon) -> str:
    with daemon.open_http() as http:
        return json.dumps(http.get("/health").json()["degraded"])


def committed(daemon: WholeDaemon) -> int:
    with daemon.open_http() as http:
        size: int = http.get("/v1/status").json()["memory"]["committed_bytes"]
    return size


def running(daemon: WholeDaemon) -> int:
    with daemon.open_http() as http:
        count: int = http.get("/v1/status").json()["requests"]["running"]
    return count


async def test_memory_is_empty_before_a_sleep_models_are_back_after_it_and_a_lost_gpu_is_told(
    tmp_path: Path,
) -> None:
    """Two models, one of them answering; the second sleep costs the machine its GPU."""
    files = {model: {"path": str(write_tiny_gguf(tmp_path / model))} for model in MODELS}
    devices = tmp_path / "devices.json"
    write_devices(devices, GPU)
    settings = {
        "models": {"directory": None, **files},
        "hardware": {"driver": "fake", "fake_file": str(devices)},
    }
    with open_daemon(settings, policies=(BUS_POLICY,)) as daemon:
        assert daemon.bus is not None
        async with (
            open_logind(daemon.bus.address, delay=BUDGET) as logind,
            open_connection(daemon.bus.address) as client,
            asyncio.timeout(2 * PATIENCE),
        ):
            told = await unloads_told(client)
            await logind.lock_taken()
            for model in MODELS:
                assert await asyncio.to_thread(ask, daemon, model, "Hello?") == "Hello?"
            assert len(daemon.workers()) == len(MODELS)
            await sleep_and_wake(daemon, logind)
            while set((await asyncio.to_thread(states, daemon)).values()) != {"ready"}:
                await asyncio.sleep(0.05)
            assert await asyncio.to_thread(degraded, daemon) == "[]"
            assert await asyncio.to_thread(daemon.property, "State") == 's "running"'
            await client.call_bus("GetId")
            assert told == [(True, "suspend"), (False, "suspend")]
            logind.announce(is_sleep=True)
            await logind.locks_closed()
            write_devices(devices)
            logind.announce(is_sleep=False)
            await logind.lock_taken()
            assert await asyncio.to_thread(ask, daemon, "tiny", "Awake?") == "gpu-unusable"
            assert daemon.workers() == []
            await asyncio.to_thread(every_door_tells, daemon, "No driver shows fake:0 any more.")
            daemon.process.terminate()
            assert await asyncio.to_thread(daemon.wait) == 0
            await client.call_bus("GetId")
            assert told[2:] == [(True, "suspend"), (False, "suspend"), (True, "shutdown")]


async def test_a_gpu_that_is_lost_while_awake_is_told_at_every_door_until_it_works_again(
    tmp_path: Path,
) -> None:
    """One model is on it, and goes on; the other is loaded nowhere else meanwhile."""
    files = {model: {"path": str(write_tiny_gguf(tmp_path / model))} for model in MODELS}
    devices = tmp_path / "devices.json"
    write_devices(devices, GPU)
    settings = {
        "models": {"directory": None, **files},
        "hardware": {"driver": "fake", "fake_file": str(devices), "interval_seconds": 0.1},
    }
    with open_daemon(settings) as daemon:
        assert daemon.bus is not None
        async with (
            open_connection(daemon.bus.address) as client,
            asyncio.timeout(2 * PATIENCE),
        ):
            told = await changes_told(client)
            assert await asyncio.to_thread(ask, daemon, "tiny", "Hello?") == "Hello?"
            write_devices(devices)
            lost = "GPUs do not work: No driver shows fake:0 any more."
            while (await told.get()).get("Degraded") != [lost]:
                pass
            await asyncio.to_thread(every_door_tells, daemon, lost, "other")
            tree = daemon.run("busctl", "tree", BUS_NAME).stdout
            assert f"{ROOT_PATH}/model/tiny" in tree
            assert f"{ROOT_PATH}/gpu/0" not in tree
            assert await asyncio.to_thread(ask, daemon, "other", "Hello?") == "gpu-unusable"
            assert await asyncio.to_thread(ask, daemon, "tiny", "Still?") == "Still?"
            write_devices(devices, GPU)
            while (await told.get()).get("Degraded") != []:
                pass
            assert await asyncio.to_thread(ask, daemon, "other", "Hello?") == "Hello?"
            assert await asyncio.to_thread(degraded, daemon) == "[]"
            assert "the GPUs work again" in daemon.log()


async def changes_told(client: BusConnection) -> asyncio.Queue[dict[str, object]]:
    """The properties of the manager that change from now on."""
    told = asyncio.Queue[dict[str, object]]()
    (owner,) = await client.call_bus("GetNameOwner", "s", BUS_NAME)

    def on_changed(signal: Signal) -> None:
        if signal.path == ROOT_PATH:
            told.put_nowait(cast("dict[str, object]", unwrap(signal.body[1])))

    client.on_signal(str(owner), PROPERTIES_INTERFACE, "PropertiesChanged", on_changed)
    await client.add_match(f"type='signal',member='PropertiesChanged',path='{ROOT_PATH}'")
    return told


async def unloads_told(client: BusConnection) -> list[tuple[object, ...]]:
    """The arguments of each PrepareForUnload from now on."""
    told: list[tuple[object, ...]] = []
    (owner,) = await client.call_bus("GetNameOwner", "s", BUS_NAME)
    client.on_signal(
        str(owner), MANAGER_INTERFACE, "PrepareForUnload", lambda signal: told.append(signal.body)
    )
    await client.add_match("type='signal',member='PrepareForUnload'")
    return told


def every_door_tells(daemon: WholeDaemon, sentence: str, model: str = "tiny") -> None:
    """D-Bus, HTTP twice, the command line, and the line of `systemctl status`.

    model: one that is not loaded.
    """
    assert daemon.property("State") == 's "degraded"'
    assert sentence in daemon.property("Degraded")
    assert sentence in degraded(daemon)
    with daemon.open_http() as http:
        assert sentence in json.dumps(http.get("/v1/status").json()["health"])
    assert sentence in daemon.run("unified-llm", "status").stdout
    daemon.wait_for(sentence)
    load = daemon.run("unified-llm", "models", "load", model)
    assert load.returncode == 6
    assert sentence in load.stderr


def every_door_is_suspending(daemon: WholeDaemon) -> None:
    """As above; requests are taken all the same, and wait."""
    assert daemon.property("State") == 's "suspending"'
    assert "about to sleep" in daemon.property("Degraded")
    with daemon.open_http() as http:
        health = http.get("/health")
        assert (health.status_code, health.json()["state"]) == (200, "suspending")
        assert http.get("/v1/status").json()["health"]["state"] == "suspending"
    assert "suspending" in daemon.run("unified-llm", "status").stdout
    daemon.wait_for("STATUS=suspending; ")


async def sleep_and_wake(daemon: WholeDaemon, logind: FakeLogind) -> None:
    """With an answer that would not end, and a request that comes in between."""
    async with asyncio.TaskGroup() as group:
        endless = group.create_task(
            asyncio.to_thread(ask, daemon, "tiny", "!tokens 1000000 !step 0.2")
        )
        while await asyncio.to_thread(running, daemon) == 0:
            await asyncio.sleep(0.05)
        announced = time.monotonic()
        logind.announce(is_sleep=True)
        await logind.locks_closed()
        assert time.monotonic() - announced < BUDGET
        assert daemon.workers() == []
        assert await asyncio.to_thread(committed, daemon) == 0
        assert await endless == "draining"
        assert "about to sleep" in await asyncio.to_thread(degraded, daemon)
        await asyncio.to_thread(every_door_is_suspending, daemon)

        waiting = group.create_task(asyncio.to_thread(ask, daemon, "tiny", "Awake?"))
        logind.announce(is_sleep=False)
        await logind.lock_taken()
        assert await waiting == "Awake?"
