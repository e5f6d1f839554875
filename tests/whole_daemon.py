"""The whole daemon as its users meet it: a process with a socket, a bus name and a log."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai

from tests.private_bus import PrivateBus, private_bus
from tests.tiny_gguf import write_tiny_gguf

BIN = Path(sys.executable).parent
# What a machine with two busy cores may take for anything that has no promise of its own.
PATIENCE = 120.0


@dataclass(slots=True)
class WholeDaemon:
    """A running daemon. folder: where its socket, settings and models are."""

    folder: Path
    bus: PrivateBus | None
    process: "subprocess.Popen[bytes]"
    manager: socket.socket
    start: Callable[[], "subprocess.Popen[bytes]"]
    notified: list[str] = field(default_factory=list)

    @property
    def socket_path(self) -> Path:
        return self.folder / "api.sock"

    @property
    def environment(self) -> dict[str, str]:
        """What to run clients with."""
        base = self.bus.environment if self.bus else dict(os.environ)
        return {**base, "UNIFIED_LLM_SOCKET": str(self.socket_path)}

    @contextmanager
    def open_http(self) -> Iterator[httpx.Client]:
        transport = httpx.HTTPTransport(uds=str(self.socket_path))
        with httpx.Client(transport=transport, base_url="http://d", timeout=PATIENCE) as client:
            yield client

    @contextmanager
    def open_openai(self) -> Iterator[openai.OpenAI]:
        """The official client, on our socket."""
        transport = httpx2.HTTPTransport(uds=str(self.socket_path))
        with (
            httpx2.Client(transport=transport, timeout=PATIENCE) as http,
            openai.OpenAI(
                base_url="http://daemon/v1", api_key="none", http_client=http, max_retries=0
            ) as client,
        ):
            yield client

    def run(self, *command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a client program beside the daemon and collect what it says."""
        if command[0].startswith("unified-llm"):
            command = (str(BIN / command[0]), *command[1:])
        defaults: dict[str, Any] = {
            "env": self.environment,
            "capture_output": True,
            "text": True,
            "timeout": PATIENCE,
            "check": False,
            "cwd": "/",
        }
        return subprocess.run(command, **(defaults | options))

    def workers(self) -> list[int]:
        """The worker processes of this daemon."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def wait_for(self, notice: str) -> str:
        """Read what the daemon tells its service manager until a datagram holds `notice`."""
        while True:
            datagram = self.manager.recv(65_536).decode()
            self.notified.append(datagram)
            if notice in datagram:
                return datagram

    def property(self, name: str) -> str:
        """A property of the manager, as busctl writes it."""
        place = ("org.unifiedllm1", "/org/unifiedllm1", "org.unifiedllm1.Manager")
        return self.run("busctl", "get-property", *place, name).stdout.strip()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def restart(self) -> None:
        """End it as a crash would, and start another in its place."""
        self.process.kill()
        self.process.wait()
        self.process = self.start()
        self.wait_for("READY=1")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def audit(self, at_least: int = 0) -> list[dict[str, str]]:
        """The audit records, in order, as soon as there are `at_least` so many.

        The record of a request is written after its answer: who has just read the answer and looks
        at once may miss it.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            whole = self.log().rpartition("\n")[0].splitlines()
            records = [json.loads(line[6:]) for line in whole if line.startswith("audit {")]
            if len(records) >= at_least:
                return records
            assert time.monotonic() < deadline, f"{len(records)} of {at_least} records: {records}"
            time.sleep(0.02)


def write_devices(file: Path, *devices: Mapping[str, Any]) -> None:
    """Have the fake driver show these from now on; it never sees half of them."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"devices": devices}))
    fresh.replace(file)


def write_settings(folder: Path, changes: Mapping[str, Any]) -> Path:
    """A configuration with everything inside `folder`; `changes` replaces whole sections."""
    settings: dict[str, Any] = {
        "models": {"directory": str(folder / "models")},
        "defaults": {"context_tokens": 256},
        "registry": {"path": str(folder / "registry.db")},
        "socket": {"path": str(folder / "api.sock"), "group": None},
        "worker": {"engine": "fake"},
        "scheduler": {"drain_seconds": 60, "queue_seconds": PATIENCE},
        "requests": {"first_event_seconds": PATIENCE, "between_events_seconds": PATIENCE},
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(settings | dict(changes)))
    return file


@contextmanager
def open_daemon(
    changes: Mapping[str, Any] | None = None,
    *,
    with_bus: bool = True,
    environment: Mapping[str, str] | None = None,
    wrapper: tuple[str, ...] = (),
    pass_fds: tuple[int, ...] = (),
    policies: tuple[Path, ...] = (),
) -> Iterator[WholeDaemon]:
    """Start a daemon with one model, `tiny`, on the fake engine, and wait for its READY.

    changes: sections of the settings. wrapper: a command that runs the daemon's. policies: of
    other services on the bus.
    Whatever is left of it in the end is killed.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whole-daemon-")))
        (folder / "models").mkdir()
        write_tiny_gguf(folder / "models" / "tiny.gguf")
        bus = stack.enter_context(private_bus(policies=policies)) if with_bus else None
        off = {} if with_bus else {"dbus": {"enabled": False}}
        settings = write_settings(folder, {**off, **(changes or {})})
        manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(str(folder / "notify"))
        manager.settimeout(PATIENCE)
        log = stack.enter_context((folder / "log").open("wb"))

        def start() -> "subprocess.Popen[bytes]":
            process = stack.enter_context(
                subprocess.Popen(
                    [*wrapper, str(BIN / "unified-llmd"), "--config", str(settings)],
                    env={
                        **(bus.environment if bus else os.environ),
                        "NOTIFY_SOCKET": str(folder / "notify"),
                        **(environment or {}),
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=pass_fds,
                )
            )
            stack.callback(process.kill)
            return process

        daemon = WholeDaemon(folder, bus, start(), manager, start)
        try:
            daemon.wait_for("READY=1")
        except TimeoutError:
            raise AssertionError(f"the daemon is not ready: {daemon.log()}") from None
        yield daemon
