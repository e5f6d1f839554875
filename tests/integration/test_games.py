"""Programs that need the models' memory: games by `unified-llm session`, others by `lease`."""

import asyncio
import os
import pty
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.bus_services.gamemode import open_gamemode, write_activation
from tests.private_bus import private_session_bus
from tests.whole_daemon import BIN, PATIENCE, WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

MIB = 2**20


def committed(daemon: WholeDaemon) -> int:
    with daemon.open_http() as http:
        size: int = http.get("/v1/status").json()["memory"]["committed_bytes"]
    return size


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


class Session:
    """`unified-llm session`, with a manager that listens to it."""

    def __init__(self, process: "subprocess.Popen[str]", manager: socket.socket) -> None:
        self.process = process
        self._manager = manager

    def wait_for(self, notice: str) -> None:
        while notice not in self._manager.recv(65_536).decode():
            pass


@contextmanager
def session(daemon: WholeDaemon, address: str, folder: Path) -> Iterator[Session]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(PATIENCE)
        environment = {
            **daemon.environment,
            "DBUS_SESSION_BUS_ADDRESS": address,
            "NOTIFY_SOCKET": str(folder / "notify"),
        }
        command = [str(BIN / "unified-llm"), "session", "--vram", "64M", "--release-after", "0.2"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as found:
            try:
                yield Session(found, manager)
            finally:
                found.kill()


async def test_models_make_room_while_a_game_runs_and_nothing_is_started_for_it(
    tmp_path: Path,
) -> None:
    write_activation(tmp_path, trace := tmp_path / "started")
    with (
        open_daemon() as daemon,
        private_session_bus(tmp_path) as address,
        session(daemon, address, tmp_path) as helper,
    ):
        await asyncio.to_thread(helper.wait_for, "READY=1")
        await asyncio.to_thread(helper.wait_for, "STATUS=no game runs")
        assert not trace.exists()
        async with open_gamemode(address) as gamemode:
            gamemode.register()
            await asyncio.to_thread(
                helper.wait_for, "STATUS=a game runs: 64.0 MiB are kept free of models"
            )
            assert await asyncio.to_thread(committed, daemon) == 64 * MIB
            assert await asyncio.to_thread(daemon.property, "GameMode") == "b true"
            gamemode.unregister()
            await asyncio.to_thread(helper.wait_for, "STATUS=no game runs")
            await asyncio.to_thread(until, lambda: committed(daemon) == 0)
            assert await asyncio.to_thread(daemon.property, "GameMode") == "b false"
            gamemode.register()
            await asyncio.to_thread(helper.wait_for, "64.0 MiB are kept")
        # GameMode itself has ended now.
        await asyncio.to_thread(helper.wait_for, "STATUS=no game runs")
        helper.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(helper.wait_for, "STOPPING=1")
        _, said = await asyncio.to_thread(helper.process.communicate)
        assert helper.process.returncode == 0
        assert "Traceback" not in said
        assert not trace.exists()


async def test_a_helper_that_is_killed_leaves_no_lease(tmp_path: Path) -> None:
    with open_daemon() as daemon, private_session_bus(tmp_path) as address:
        async with open_gamemode(address, clients=1):
            with session(daemon, address, tmp_path) as helper:
                await asyncio.to_thread(helper.wait_for, "64.0 MiB are kept")
                helper.process.kill()
                await asyncio.to_thread(until, lambda: committed(daemon) == 0)


def test_a_login_without_a_session_bus_is_told(tmp_path: Path) -> None:
    with open_daemon() as daemon:
        environment = {**daemon.environment, "XDG_RUNTIME_DIR": str(tmp_path)}
        environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
        done = daemon.run("unified-llm", "session", env=environment)
        assert done.returncode == 3
        assert f"Cannot connect to the bus at unix:path={tmp_path}/bus" in done.stderr


def test_the_end_of_a_bus_ends_the_helper_with_a_reason(tmp_path: Path) -> None:
    with open_daemon() as daemon, private_session_bus(tmp_path) as address:
        assert daemon.bus is not None
        with session(daemon, address, tmp_path) as helper:
            helper.wait_for("READY=1")
            daemon.bus.process.kill()
            _, said = helper.process.communicate(timeout=PATIENCE)
            assert helper.process.returncode == 3
            assert "the bus is gone" in said
            assert "Traceback" not in said


def test_a_command_runs_with_its_memory_free_and_its_status_passes_through() -> None:
    with open_daemon() as daemon:
        look = ("curl", "-s", "--unix-socket", str(daemon.socket_path), "http://d/v1/status")
        done = daemon.run("unified-llm", "lease", "--vram", "64M", "--", *look)
        assert '"committed_bytes":67108864' in done.stdout.replace(" ", "")
        until(lambda: committed(daemon) == 0)
        statuses = {
            ("sh", "-c", "exit 7"): 7,
            ("sh", "-c", "kill -KILL $$"): 128 + 9,
            ("no-such-program",): 127,
            ("/",): 126,
        }
        for command, status in statuses.items():
            done = daemon.run("unified-llm", "lease", "--vram", "64M", *command)
            assert done.returncode == status, done
            assert "Traceback" not in done.stderr


def test_a_lease_that_is_refused_says_how_much_there_is_and_runs_nothing() -> None:
    with open_daemon() as daemon:
        done = daemon.run("unified-llm", "lease", "--vram", "900T", "--", "echo", "ran")
        assert (done.returncode, done.stdout) == (6, "")
        assert "900.0 TiB can not be reserved; the budget is" in done.stderr
        assert daemon.run("unified-llm", "lease", "--vram", "lots", "true").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_go_to_the_command(number: signal.Signals) -> None:
    script = (
        f"trap 'echo got; exit 3' {number.value}; echo ready; "
        "for turn in $(seq 2400); do sleep 0.05; done"
    )
    with open_daemon() as daemon:
        command = [str(BIN / "unified-llm"), "lease", "--vram", "64M", "--", "sh", "-c", script]
        with subprocess.Popen(
            command, env=daemon.environment, stdout=subprocess.PIPE, text=True, process_group=0
        ) as running:
            try:
                assert running.stdout is not None
                assert running.stdout.readline() == "ready\n"
                running.send_signal(number)
                assert running.stdout.readline() == "got\n"
                assert running.wait(PATIENCE) == 3
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)


def test_an_interrupt_from_the_terminal_reaches_the_command_once() -> None:
    # A second one would come with the first.
    script = (
        "n=0; trap 'n=$((n+1))' INT; echo ready; "
        "until [ $n -gt 0 ]; do sleep 0.05; done; sleep 0.5; echo got $n"
    )
    with open_daemon() as daemon:
        process, terminal = pty.fork()
        if process == 0:
            command = [str(BIN / "unified-llm"), "lease", "--vram", "64M", "sh", "-c", script]
            os.execve(command[0], command, daemon.environment)
        said = ""
        while "ready" not in said:
            said += os.read(terminal, 1000).decode()
        os.write(terminal, b"\x03")
        while "got" not in said:
            said += os.read(terminal, 1000).decode()
        _, status = os.waitpid(process, 0)
        os.close(terminal)
        assert "got 1" in said
        assert os.waitstatus_to_exitcode(status) == 0


def test_a_restarted_daemon_is_asked_again() -> None:
    with open_daemon() as daemon:
        command = [str(BIN / "unified-llm"), "lease", "--vram", "64M", "--"]
        with subprocess.Popen(
            [*command, "sh", "-c", "echo started; exec sleep 600"],
            env=daemon.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            try:
                # One that ends before the memory is free has the command not run at all.
                assert running.stdout is not None
                assert running.stdout.readline() == "started\n"
                assert committed(daemon) == 64 * MIB
                daemon.restart()
                until(lambda: committed(daemon) == 64 * MIB)
                running.terminate()
                _, said = running.communicate(timeout=PATIENCE)
            finally:
                running.kill()
        assert "the daemon does not run" in said
        assert running.returncode == 128 + signal.SIGTERM
