"""The whole daemon around a sleep of the machine that logind announces."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.bus_services.logind import BUS_POLICY, FakeLogind, open_logind
from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

MODELS = ("tiny", "other")


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


def running(daemon: WholeDaemon) -> int:
    with daemon.open_http() as http:
        count: int = http.get("/v1/status").json()["requests"]["running"]
    return count


async def test_memory_is_empty_before_the_machine_sleeps_and_models_are_back_after_it(
    tmp_path: Path,
) -> None:
    files = {model: {"path": str(write_tiny_gguf(tmp_path / model))} for model in MODELS}
    with open_daemon({"models": {"directory": None, **files}}, policies=(BUS_POLICY,)) as daemon:
        assert daemon.bus is not None
        async with (
            open_logind(daemon.bus.address, delay=10) as logind,
            asyncio.timeout(2 * PATIENCE),
        ):
            await logind.lock_taken()
            for model in MODELS:
                assert await asyncio.to_thread(ask, daemon, model, "Hello?") == "Hello?"
            assert len(daemon.workers()) == len(MODELS)
            await sleep_and_wake(daemon, logind)
            while set((await asyncio.to_thread(states, daemon)).values()) != {"ready"}:
                await asyncio.sleep(0.05)
            assert await asyncio.to_thread(degraded, daemon) == "[]"


async def sleep_and_wake(daemon: WholeDaemon, logind: FakeLogind) -> None:
    """With an answer that would not end, and a request that comes in between."""
    async with asyncio.TaskGroup() as group:
        endless = group.create_task(
            asyncio.to_thread(ask, daemon, "tiny", "!tokens 1000000 !step 0.2")
        )
        while await asyncio.to_thread(running, daemon) == 0:
            await asyncio.sleep(0.05)
        logind.announce(is_sleep=True)
        await logind.locks_closed()
        assert daemon.workers() == []
        assert await endless == "draining"
        assert "about to sleep" in await asyncio.to_thread(degraded, daemon)

        waiting = group.create_task(asyncio.to_thread(ask, daemon, "tiny", "Awake?"))
        logind.announce(is_sleep=False)
        await logind.lock_taken()
        assert await waiting == "Awake?"
