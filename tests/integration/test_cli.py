"""The command line against the whole daemon."""

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import termios
from pathlib import Path

import pytest

from tests.whole_daemon import BIN, PATIENCE, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_a_question_is_answered_from_an_argument_or_from_standard_input() -> None:
    with open_daemon(with_bus=False) as daemon:
        asked = daemon.run("unified-llm", "chat", "Hello there")
        assert (asked.returncode, asked.stdout) == (0, "Hello there\n")
        piped = daemon.run("unified-llm", "chat", "--json", input="From a pipe")
        assert json.loads(piped.stdout) == {
            "model": "tiny",
            "content": "From a pipe",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 4, "completion_tokens": 3},
        }
        cut = daemon.run("unified-llm", "chat", "--max-tokens", "2", "one two three")
        assert cut.stdout == "one two\n"
        not_text = daemon.run("sh", "-c", f"printf '\\377' | {BIN}/unified-llm chat")
        assert not_text.returncode == 4
        assert "not UTF-8 at byte 0" in not_text.stderr


def test_a_conversation_at_the_terminal_remembers_and_forgets() -> None:
    with open_daemon(with_bus=False) as daemon:
        terminal, inside = pty.openpty()
        with subprocess.Popen(
            [str(BIN / "unified-llm"), "chat"],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**daemon.environment, "TERM": "dumb"},
            start_new_session=True,
            preexec_fn=take_terminal,
        ) as program:
            os.close(inside)
            try:
                read_until(terminal, "> ")
                os.write(terminal, b"first words\n")
                assert "first words" in read_until(terminal, "\r\n> ")
                os.write(terminal, b"other words\n")
                assert "other words" in read_until(terminal, "\r\n> ")
                os.write(terminal, b"/new\n")
                read_until(terminal, "> ")
                os.write(terminal, b"third words\n")
                read_until(terminal, "third words\r\n> ")
                os.write(terminal, b"!tokens 100000 !step 0.05\n")
                read_until(terminal, "3 4 5")
                os.write(terminal, b"\x03")
                assert "[stopped]" in read_until(terminal, "> ")
                os.write(terminal, b"/exit\n")
                assert program.wait(PATIENCE) == 0
            finally:
                program.kill()
                os.close(terminal)
        first, other, third = [int(r["UNIFIED_LLM_PROMPT_TOKENS"]) for r in daemon.audit(3)[:3]]
        assert other > first
        assert third == first


def take_terminal() -> None:
    """Have Ctrl-C arrive: with its terminal, and not ignored as in jobs of a background shell."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_until(terminal: int, text: str) -> str:
    seen = ""
    while text not in seen:
        assert select.select([terminal], [], [], PATIENCE)[0], f"only {seen!r} came"
        seen += os.read(terminal, 65_536).decode()
    return seen


def test_models_are_listed_shown_loaded_and_unloaded() -> None:
    with open_daemon() as daemon:
        table = daemon.run("unified-llm", "models", "list").stdout.splitlines()
        assert table[0].split() == ["MODEL", "STATE", "SIZE", "MEMORY", "CONTEXT"]
        assert table[1].split()[:2] == ["tiny", "available"]
        loaded = daemon.run("unified-llm", "models", "load", "tiny")
        assert (loaded.returncode, loaded.stdout) == (0, "tiny is loaded\n")
        shown = json.loads(daemon.run("unified-llm", "models", "show", "tiny", "--json").stdout)
        assert shown["x_unified_llm"]["state"] == "ready"
        unloaded = json.loads(
            daemon.run("unified-llm", "models", "unload", "tiny", "--json").stdout
        )
        assert (unloaded["model"], unloaded["result"]) == ("tiny", "unloaded")
        assert daemon.workers() == []
        status = json.loads(daemon.run("unified-llm", "status", "--json").stdout)
        assert status["models"] == {"available": 1}
        assert "running" in daemon.run("unified-llm", "status").stdout


def test_failures_have_the_documented_statuses(tmp_path: Path) -> None:
    with open_daemon() as daemon:
        cases = {
            ("chat", "--model", "tin", "x"): 4,
            ("chat", "--temperature", "9", "x"): 4,
            ("models", "show", "tin"): 4,
            ("models", "load", "tin"): 4,
            ("models", "frobnicate"): 2,
            ("chat", "!crash"): 6,
        }
        for words, status in cases.items():
            done = daemon.run("unified-llm", *words)
            assert done.returncode == status, (words, done)
            assert done.stderr
        missing = {"UNIFIED_LLM_SOCKET": str(tmp_path / "nothing")}
        away = daemon.run("unified-llm", "status", "--json", env=missing)
        assert away.returncode == 3
        assert json.loads(away.stdout)["error"]["code"] == "unreachable"


def test_words_that_no_request_can_hold_are_refused_in_one_line() -> None:
    with open_daemon(with_bus=False) as daemon:
        names = (
            "",
            "..",
            "../status",
            "a/../../status",
            "tiny?x=1",
            "tiny#x",
            "a\nb",
            "\x1b[31m",
            b"\xff",
        )
        cases: list[tuple[str | bytes, ...]] = [("models", "show", name) for name in names]
        cases += [
            ("chat", "--model", "", "x"),
            ("chat", b"\xff"),
            ("chat", "--system", b"\xff", "x"),
        ]
        cases += [("chat", "--temperature", number, "x") for number in ("nan", "inf")]
        for words in cases:
            done = daemon.run(str(BIN / "unified-llm"), *words)  # type: ignore[arg-type]
            assert (done.returncode, done.stdout) == (4, ""), (words, done)
            assert done.stderr.count("\n") == 1, (words, done)
            assert done.stderr.startswith("unified-llm: "), (words, done)


def test_a_closed_input_and_a_full_disk_are_told_without_a_trace() -> None:
    with open_daemon(with_bus=False) as daemon:
        program = BIN / "unified-llm"
        closed = daemon.run("sh", "-c", f"{program} chat <&-")
        assert closed.returncode == 4
        assert "standard input is closed" in closed.stderr
        for command in ("chat x", "models list", "status", "models show tiny --json"):
            full = daemon.run("sh", "-c", f"{program} {command} > /dev/full")
            assert (full.returncode, full.stderr) == (
                1,
                "unified-llm: Cannot read input or write output: No space left on device.\n",
            )


def test_a_user_whom_the_socket_does_not_admit_is_told_so() -> None:
    with open_daemon(with_bus=False) as daemon:
        daemon.socket_path.chmod(0)
        # Another user might not be able to read this checkout; without its capabilities root is
        # bound by the socket's mode as anybody is.
        bound = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
        done = daemon.run(*bound, str(BIN / "unified-llm"), "status")
        assert done.returncode == 5
        assert "may not open" in done.stderr


def test_a_file_to_check_may_have_the_name_of_an_option(tmp_path: Path) -> None:
    (tmp_path / "--json").write_text("sockt: 1")
    done = subprocess.run(
        [BIN / "unified-llm", "config", "check", "--", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 78
    assert "did you mean 'socket'" in done.stderr


def test_a_plan_is_shown_without_loading_anything() -> None:
    with open_daemon(with_bus=False) as daemon:
        shown = daemon.run("unified-llm", "models", "plan", "tiny", "--ram", "16G", "--slots", "2")
        assert shown.returncode == 0, shown.stderr
        assert "RAM" in shown.stdout
        assert "f16 keys and values" in shown.stdout
        asked = ["models", "plan", "tiny", "--vram", "8G", "--gpus", "2", "--json"]
        found = json.loads(daemon.run("unified-llm", *asked).stdout)
        assert [device["name"] for device in found["devices"]] == ["RAM", "GPU 0", "GPU 1"]
        assert sum(part["bytes"] for part in found["parts"]) == found["total_bytes"]
        assert "/" not in json.dumps(found)
        refused = daemon.run("unified-llm", "models", "plan", "tiny", "--ram", "1M")
        assert refused.returncode == 6
        assert "1.0 MiB of RAM" in refused.stderr
        assert daemon.run("unified-llm", "models", "plan", "tiny", "--ram", "much").returncode == 2
        state = json.loads(daemon.run("unified-llm", "models", "show", "tiny", "--json").stdout)
        assert state["x_unified_llm"]["state"] != "ready"
