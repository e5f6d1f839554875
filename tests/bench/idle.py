"""What the daemon costs while nobody asks anything: memory, wake-ups, and the time to be ready.

`python -m tests.bench.idle` takes a little over a minute. The daemon runs as systemd runs it: with
a notification socket and a watchdog of 30 seconds. It has a bus of its own, and knows one model,
which is not loaded.
"""

import getpass
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bars import Bar, print_bars
from tests.private_bus import private_bus
from tests.real_models import smollm2

_READY_LIMIT_SECONDS = 60
_SETTLE_SECONDS = 10
_COUNT_SECONDS = 60
_WATCHDOG_USEC = 30_000_000
_KIB_PER_MIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident and proportional set size of one process, in MiB."""

    rss: float
    pss: float


def read_memory(pid: int) -> Memory:
    """From smaps_rollup (proc(5))."""
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    rss, pss = (int(fields[name].split()[0]) / _KIB_PER_MIB for name in ("Rss", "Pss"))
    return Memory(rss, pss)


def read_switches(pid: int) -> dict[str, int]:
    """Context switches of each thread so far, voluntary and not: each is a wake-up of some kind."""
    counts = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        counts[task.name] = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return counts


def switches_between(before: dict[str, int], after: dict[str, int]) -> int:
    """A thread that ended in between is not counted; one that began is, with all it did."""
    return sum(count - before.get(thread, 0) for thread, count in after.items())


@contextmanager
def open_notify_socket(folder: Path) -> Iterator[socket.socket]:
    """The socket on which systemd hears from a service (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(folder / "notify"))
        notify.settimeout(_READY_LIMIT_SECONDS)
        yield notify


@contextmanager
def open_daemon(folder: Path, bus_address: str) -> Iterator[subprocess.Popen[bytes]]:
    settings = {
        "models": {"directory": None, "smollm2": {"path": str(smollm2())}},
        "socket": {"path": str(folder / "api.sock"), "mode": "0600", "group": None},
        "dbus": {"address": bus_address},
    }
    (folder / "config.yaml").write_text(json.dumps(settings))
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": str(folder / "notify"),
        "WATCHDOG_USEC": str(_WATCHDOG_USEC),
        "STATE_DIRECTORY": str(folder),
    }
    program = str(Path(sys.executable).with_name("unified-llmd"))
    command = [program, "--config", str(folder / "config.yaml")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as daemon:
        try:
            yield daemon
        finally:
            daemon.terminate()


def wait_for_ready(notify: socket.socket) -> None:
    """Until READY=1; TimeoutError when nothing is said for a minute."""
    while b"READY=1" not in notify.recv(4096).split(b"\n"):
        pass


def measure(folder: Path, bus_address: str) -> list[Bar]:
    with open_notify_socket(folder) as notify:
        begun = time.monotonic()
        with open_daemon(folder, bus_address) as daemon:
            wait_for_ready(notify)
            ready = time.monotonic() - begun
            time.sleep(_SETTLE_SECONDS)
            memory = read_memory(daemon.pid)
            before, counted_from = read_switches(daemon.pid), time.monotonic()
            time.sleep(_COUNT_SECONDS)
            switches = switches_between(before, read_switches(daemon.pid))
            minutes = (time.monotonic() - counted_from) / 60
    print(f"rss {memory.rss:.1f} MiB, pss {memory.pss:.1f} MiB, {switches} wake-ups")
    return [
        Bar("idle.rss_mb", memory.rss, at_most=80),
        Bar("idle.wakeups_per_minute", switches / minutes, at_most=12),
        Bar("idle.ready_seconds", ready, at_most=1.5),
    ]


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="idle-") as folder,
        private_bus(owner=getpass.getuser()) as bus,
    ):
        print_bars(measure(Path(folder), bus.address))


if __name__ == "__main__":
    main()
