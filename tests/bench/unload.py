"""How long it takes from asking for an unload until the memory is free.

`python -m tests.bench.unload` takes half a minute: a real daemon loads the packaged model, answers
with it and unloads it, several times. Free means that the worker is reaped and the daemon counts
nothing as held any more; the machine's own word on it is printed beside that.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final
from unittest import mock

import httpx

from tests.bench.bars import Bar, print_bars
from tests.real_models import smollm2
from tests.whole_daemon import WholeDaemon, open_daemon
from unified_llm.cli import management
from unified_llm.cli.management import Verb
from unified_llm.domain.units import render_bytes

MODEL: Final = "smollm2"
ROUNDS: Final = 8
BAR_SECONDS: Final = 0.5
_LIMIT_SECONDS: Final = 60.0


def available_bytes() -> int:
    """MemAvailable of proc(5)'s meminfo."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith("MemAvailable:")]
    return int(found.split()[1]) * 1024


def wait_until(is_so: Callable[[], bool]) -> None:
    """TimeoutError after a minute."""
    end = time.monotonic() + _LIMIT_SECONDS
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError("the memory is still held")
        time.sleep(0.002)


def measure_one(daemon: WholeDaemon, http: httpx.Client) -> float:
    """Load, answer, and unload; seconds from asking for the unload until the memory is free."""

    def held() -> int:
        return int(http.get("/v1/status").json()["memory"]["committed_bytes"])

    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    http.post("/v1/chat/completions", json=body).raise_for_status()
    before, size = available_bytes(), held()
    begun = time.monotonic()
    management.run_verb(Verb(management.UNLOAD, "s", (MODEL,)), lambda _: None, may_interact=False)
    done = time.monotonic() - begun
    wait_until(lambda: not held() and not daemon.workers())
    free = time.monotonic() - begun
    print(
        f"unloaded {render_bytes(size)}: job done after {done:.3f} s, free after {free:.3f} s; "
        f"the machine has {render_bytes(max(available_bytes() - before, 0))} more available"
    )
    return free


def main() -> None:
    changes = {
        "worker": {"engine": "llama"},
        "models": {"directory": None, MODEL: {"path": str(smollm2())}},
    }
    with (
        open_daemon(changes) as daemon,
        daemon.open_http() as http,
        mock.patch.dict(os.environ, daemon.environment),
    ):
        taken = [measure_one(daemon, http) for _ in range(ROUNDS)]
    print(f"median {median(taken):.3f} s, longest {max(taken):.3f} s")
    print_bars([Bar("unload.seconds", max(taken), at_most=BAR_SECONDS)])


if __name__ == "__main__":
    main()
