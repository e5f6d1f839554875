"""The whole daemon around a sleep of the machine that logind announces."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.bus_services.logind import BUS_POLICY, FakeLogind, open_logind
from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.names import BUS_NAME, MANAGER_INTERFACE

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
    devices.write_text(json.dumps({"devices": [GPU]}))
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
            assert told == [(True, "suspend"), (False, "suspend")]
            logind.announce(is_sleep=True)
            await logind.locks_closed()
            devices.write_text(json.dumps({"devices": []}))
            logind.announce(is_sleep=False)
            await logind.lock_taken()
            assert await asyncio.to_thread(ask, daemon, "tiny", "Awake?") == "gpu-unusable"
            assert daemon.workers() == []
            await asyncio.to_thread(every_door_tells, daemon, "No driver shows fake:0 any more.")
            daemon.process.terminate()
            assert await asyncio.to_thread(daemon.wait) == 0
            await client.call_bus("GetId")
            assert told[2:] == [(True, "suspend"), (False, "suspend"), (True, "shutdown")]


async def unloads_told(client: BusConnection) -> list[tuple[object, ...]]:
    """The arguments of each PrepareForUnload from now on."""
    told: list[tuple[object, ...]] = []
    (owner,) = await client.call_bus("GetNameOwner", "s", BUS_NAME)
    client.on_signal(
        str(owner), MANAGER_INTERFACE, "PrepareForUnload", lambda signal: told.append(signal.body)
    )
    await client.add_match("type='signal',member='PrepareForUnload'")
    return told


def every_door_tells(daemon: WholeDaemon, sentence: str) -> None:
    """D-Bus, HTTP twice, the command line, and the line of `systemctl status`."""
    assert daemon.property("State") == 's "degraded"'
    assert sentence in daemon.property("Degraded")
    assert sentence in degraded(daemon)
    with daemon.open_http() as http:
        assert sentence in json.dumps(http.get("/v1/status").json()["health"])
    assert sentence in daemon.run("unified-llm", "status").stdout
    daemon.wait_for(sentence)
    load = daemon.run("unified-llm", "models", "load", "tiny")
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
