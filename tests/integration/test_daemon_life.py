"""The whole daemon: readiness, reload, stop, and what is left of it when it is killed."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.process_watch import ends_within
from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import BIN, PATIENCE, WholeDaemon, open_daemon, write_settings

pytestmark = [pytest.mark.system, pytest.mark.slow]

ENDLESS = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "!tokens 1000000 !step 0.02"}],
    "stream": True,
}


def chat(daemon: WholeDaemon, content: str) -> str:
    with daemon.open_http() as http:
        answer = http.post(
            "/v1/chat/completions",
            json={"model": "tiny", "messages": [{"role": "user", "content": content}]},
        )
    answer.raise_for_status()
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


class Stream(threading.Thread):
    """A client that streams in the background and keeps what it read."""

    def __init__(self, daemon: WholeDaemon) -> None:
        super().__init__()
        self._daemon = daemon
        self.data: list[str] = []
        self.has_begun = threading.Event()

    def run(self) -> None:
        with (
            suppress(httpx.TransportError),  # some tests kill the daemon under the stream
            self._daemon.open_http() as http,
            http.stream("POST", "/v1/chat/completions", json=ENDLESS) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.data.append(line.removeprefix("data: "))
                    if '"content":"1' in line:
                        self.has_begun.set()

    def errors(self) -> list[str]:
        """The codes of the error events."""
        chunks = [json.loads(data) for data in self.data if data != "[DONE]"]
        return [chunk["error"]["code"] for chunk in chunks if "error" in chunk]


def test_when_systemd_hears_ready_every_door_answers() -> None:
    with open_daemon() as daemon:
        with daemon.open_http() as http:
            assert http.get("/health").json() == {
                "live": True,
                "ready": True,
                "state": "running",
                "degraded": [],
            }
        assert daemon.bus is not None
        listed = daemon.bus.run(
            *("busctl", f"--address={daemon.bus.address}", "call", "org.unifiedllm1"),
            *("/org/unifiedllm1", "org.unifiedllm1.Manager", "ListModels", "a{sv}", "0"),
        )
        assert '"tiny" "available"' in listed.stdout


def test_the_status_line_follows_the_models() -> None:
    with open_daemon() as daemon:
        assert "nothing loaded" in daemon.notified[-1]
        chat(daemon, "Hello")
        assert "loaded: tiny" in daemon.wait_for("loaded: tiny")


def test_a_preloaded_model_serves_before_anybody_asks(tmp_path: Path) -> None:
    wanted = {"path": str(write_tiny_gguf(tmp_path / "wanted.gguf")), "preload": True}
    with open_daemon({"models": {"directory": None, "wanted": wanted}}, with_bus=False) as daemon:
        if "loaded: wanted" not in daemon.notified[-1]:
            daemon.wait_for("loaded: wanted")
        later = {"path": str(write_tiny_gguf(tmp_path / "later.gguf")), "preload": True}
        models = {"directory": None, "wanted": wanted, "later": later}
        write_settings(daemon.folder, {"models": models, "dbus": {"enabled": False}})
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("loaded: later, wanted")


def test_the_watchdog_is_fed() -> None:
    with open_daemon(environment={"WATCHDOG_USEC": "500000"}) as daemon:
        for _ in range(3):
            daemon.wait_for("WATCHDOG=1")


def test_a_daemon_that_stands_still_feeds_no_watchdog() -> None:
    with open_daemon(environment={"WATCHDOG_USEC": "200000"}) as daemon:
        daemon.wait_for("WATCHDOG=1")
        daemon.signal(signal.SIGSTOP)
        wait_until_stopped(daemon.process.pid)
        drain(daemon.manager)
        daemon.manager.settimeout(2)
        with pytest.raises(TimeoutError):
            daemon.wait_for("WATCHDOG=1")
        daemon.signal(signal.SIGCONT)
        daemon.manager.settimeout(PATIENCE)
        daemon.wait_for("WATCHDOG=1")


def wait_until_stopped(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def drain(manager: socket.socket) -> None:
    manager.setblocking(False)
    try:
        while manager.recv(65_536):
            pass
    except BlockingIOError:
        manager.setblocking(True)


def test_a_reload_takes_new_models_and_breaks_no_stream() -> None:
    with open_daemon() as daemon:
        stream = Stream(daemon)
        stream.start()
        assert stream.has_begun.wait(PATIENCE)
        (worker,) = daemon.workers()
        second = write_tiny_gguf(daemon.folder / "second.gguf")
        models = {"directory": str(daemon.folder / "models"), "second": {"path": str(second)}}
        write_settings(daemon.folder, {"models": models, "dbus": {"address": None}})
        daemon.signal(signal.SIGHUP)
        announced = daemon.wait_for("RELOADING=1")
        assert "MONOTONIC_USEC=" in announced
        assert "2 models" in daemon.wait_for("READY=1")
        listed = daemon.run("unified-llm", "models", "list", "--json")
        assert [model["id"] for model in json.loads(listed.stdout)] == ["second", "tiny"]
        assert daemon.workers() == [worker]
        assert stream.errors() == []
        daemon.process.kill()
        stream.join(PATIENCE)


def test_a_broken_file_is_refused_on_reload_and_the_old_stays() -> None:
    with open_daemon() as daemon:
        (daemon.folder / "config.yaml").write_text("modles: {}\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("RELOADING=1")
        ready = daemon.wait_for("READY=1")
        assert "reload refused" in ready
        assert "did you mean `models`" in ready.replace("'", "`")
        assert chat(daemon, "Hello") == "Hello"


def test_a_stop_lets_answers_end_and_then_ends_each_stream_with_one_error() -> None:
    with open_daemon({"scheduler": {"drain_seconds": 1}}) as daemon:
        streams = [Stream(daemon) for _ in range(3)]
        for stream in streams:
            stream.start()
        for stream in streams:
            assert stream.has_begun.wait(PATIENCE)
        workers = daemon.workers()
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("STOPPING=1")
        assert daemon.wait() == 0
        for stream in streams:
            stream.join(PATIENCE)
            assert stream.errors() == ["closing"]
            assert "[DONE]" not in stream.data
        assert all(ends_within(worker, PATIENCE) for worker in workers)
        assert not daemon.socket_path.exists()


def test_a_stop_ends_generations_on_the_bus_with_one_error_as_well() -> None:
    with open_daemon({"scheduler": {"drain_seconds": 1}}) as daemon:
        assert daemon.bus is not None
        with subprocess.Popen(
            [
                *("busctl", f"--address={daemon.bus.address}", "--timeout=300", "call"),
                *("org.unifiedllm1", "/org/unifiedllm1", "org.unifiedllm1.Manager"),
                *("GenerateText", "ssa{sv}", "tiny", "!tokens 1000000 !step 0.02", "0"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        ) as asking:
            daemon.wait_for("loaded: tiny")
            daemon.signal(signal.SIGTERM)
            _, said = asking.communicate(timeout=PATIENCE)
        assert daemon.wait() == 0
        assert "The daemon is stopping." in said
        (record,) = daemon.audit(1)
        assert (record["UNIFIED_LLM_RESULT"], record["UNIFIED_LLM_CODE"]) == ("failed", "closing")


def test_a_short_answer_ends_whole_while_the_daemon_stops() -> None:
    with open_daemon() as daemon, daemon.open_http() as http:
        body = ENDLESS | {"messages": [{"role": "user", "content": "!tokens 20 !step 0.05"}]}
        with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            while '"content":"1' not in next(lines):
                pass
            daemon.signal(signal.SIGTERM)
            assert list(lines)[-2] == "data: [DONE]"
        assert daemon.wait() == 0


def test_a_second_stop_hurries_and_still_ends_each_stream_with_one_error() -> None:
    with open_daemon({"scheduler": {"drain_seconds": 600, "stop_seconds": 1}}) as daemon:
        streams = [Stream(daemon) for _ in range(2)]
        for stream in streams:
            stream.start()
        for stream in streams:
            assert stream.has_begun.wait(PATIENCE)
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("STOPPING=1")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        for stream in streams:
            stream.join(PATIENCE)
            assert len(stream.errors()) == 1
            assert "[DONE]" not in stream.data


def test_a_stop_is_not_kept_waiting_by_a_storm_of_reloads() -> None:
    with open_daemon() as daemon:
        # Stopped, it finds all of them at once; the manager's socket takes a few datagrams only.
        for _ in range(40):
            daemon.signal(signal.SIGHUP)
            time.sleep(0.005)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0


def test_a_stop_while_the_bus_does_not_answer_ends_the_start(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "bus"))
        deaf.listen()
        deaf.settimeout(PATIENCE)
        settings = write_settings(tmp_path, {"dbus": {"address": f"unix:path={tmp_path / 'bus'}"}})
        with subprocess.Popen([BIN / "unified-llmd", "--config", settings]) as process:
            connection, _ = deaf.accept()
            with connection:
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
        assert not (tmp_path / "api.sock").exists()


def test_a_killed_daemon_leaves_no_worker() -> None:
    with open_daemon() as daemon:
        stream = Stream(daemon)
        stream.start()
        assert stream.has_begun.wait(PATIENCE)
        (worker,) = daemon.workers()
        daemon.process.kill()
        assert ends_within(worker, PATIENCE)
        stream.join(PATIENCE)


def test_a_lost_bus_ends_the_daemon_with_a_failure() -> None:
    with open_daemon() as daemon:
        assert daemon.bus is not None
        daemon.bus.process.kill()
        assert daemon.wait() == 1
        assert "the bus is gone" in daemon.log()


def test_a_bad_configuration_is_exit_status_78_with_every_problem(tmp_path: Path) -> None:
    file = write_settings(tmp_path, {"sokcet": {}, "log": {"level": "loud"}})
    with open_daemon() as daemon:
        for command in (("unified-llmd", "--config"), ("unified-llm", "config", "check")):
            done = daemon.run(*command, str(file))
            assert done.returncode == 78
            assert "sokcet" in done.stderr
            assert "socket" in done.stderr
            assert "log.level" in done.stderr


def test_a_second_daemon_on_the_same_socket_is_refused() -> None:
    with open_daemon(with_bus=False) as daemon:
        done = daemon.run("unified-llmd", "--config", str(daemon.folder / "config.yaml"))
        assert done.returncode == 78
        assert "another process is listening there" in done.stderr
        assert chat(daemon, "Hello") == "Hello"


def test_a_socket_of_systemd_is_served_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "activated.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        # systemd passes descriptor 3 and the pid of the very process; a shell can do both.
        script = f'export LISTEN_PID=$$; exec "$@" 3<&{listener.fileno()}'
        os.set_inheritable(listener.fileno(), True)
        with open_daemon(
            {"socket": {"path": str(path), "group": None}},
            with_bus=False,
            environment={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "api"},
            wrapper=("/bin/bash", "-c", script, "bash"),
            pass_fds=(listener.fileno(),),
        ) as daemon:
            done = daemon.run("unified-llm", "status", env={"UNIFIED_LLM_SOCKET": str(path)})
            assert done.returncode == 0, done.stderr
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
        assert path.exists()


def test_commands_are_where_the_package_puts_them() -> None:
    assert (BIN / "unified-llmd").exists()
    assert (BIN / "unified-llm").exists()
