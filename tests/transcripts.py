"""Writes docs/reference/dbus-transcripts.md: what busctl prints when it asks a running daemon.

    python -m tests.transcripts > docs/reference/dbus-transcripts.md

The daemon runs the packaged model on a bus of its own. Numbers of jobs, names of connections and
times differ with each run.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.real_models import smollm2
from tests.whole_daemon import WholeDaemon, open_daemon

MANAGER: Final = "org.unifiedllm1 /org/unifiedllm1 org.unifiedllm1.Manager"
MODEL: Final = "smollm2"
INTROSPECT: Final = f"busctl introspect --no-legend {MANAGER}"
INSTALLED_SOCKET: Final = "/run/unified-llm/api.sock"
HEAD: Final = """\
# D-Bus transcripts

Written by `python -m tests.transcripts` from a running daemon with the packaged model; numbers of
jobs, names of connections and times differ with each run. The socket stands where it is installed.
"""


def shell(daemon: WholeDaemon, command: str) -> str:
    """The command as it is typed, and all it prints."""
    done = daemon.run("sh", "-c", command)
    printed = f"{done.stdout}{done.stderr}".replace(str(daemon.socket_path), INSTALLED_SOCKET)
    return f"$ {command}\n{printed}"


@contextmanager
def open_monitor(daemon: WholeDaemon, command: str) -> Iterator[Callable[[], str]]:
    """Have `command` listen; what it has printed is told once."""
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command}"],
        env=daemon.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        process.stderr.readline()  # it says when it listens

        def stop() -> str:
            # Whatever was sent before this reply has been delivered before it.
            daemon.run(
                "busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId"
            )
            process.terminate()
            printed, _ = process.communicate()
            return f"$ {command}\n{printed}"

        yield stop


def transcripts(daemon: WholeDaemon) -> Iterator[tuple[str, str]]:
    """A heading and a text for each."""
    yield "What the manager offers", shell(daemon, INTROSPECT)
    yield "Which models there are", shell(daemon, f"busctl call {MANAGER} ListModels 'a{{sv}}' 0")
    monitor = "busctl monitor --match \"type='signal',member='JobRemoved'\""
    with open_monitor(daemon, monitor) as stop:
        load = shell(daemon, f"busctl call {MANAGER} LoadModel 'sa{{sv}}' {MODEL} 0")
        path = load.split('"')[1]
        wait = f"busctl --timeout=300 call org.unifiedllm1 {path} org.unifiedllm1.Job Wait"
        yield "Loading one, and waiting until it serves", f"{load}{shell(daemon, wait)}"
        yield "The signal of its end, as a monitor sees it", stop()
    question = "'What is the capital of France?'"
    options = "3 system s 'You answer in English.' max_tokens u 24 temperature d 0"
    ask = (
        f"busctl --timeout=300 call {MANAGER} GenerateText 'ssa{{sv}}' {MODEL} {question} {options}"
    )
    yield "An answer", shell(daemon, ask)
    wrong = f"busctl call {MANAGER} LoadModel 'sa{{sv}}' smolm2 0"
    option = f"busctl call {MANAGER} LoadModel 'sa{{sv}}' {MODEL} 1 force b true"
    yield "Mistakes", shell(daemon, wrong) + shell(daemon, option)


def main() -> None:
    changes = {
        "models": {"directory": None, MODEL: {"path": str(smollm2())}},
        "worker": {"engine": "llama"},
        "defaults": {"context_tokens": 1024},
    }
    parts = [HEAD]
    with open_daemon(changes) as daemon:
        parts += [f"## {title}\n\n```\n{text}```\n" for title, text in transcripts(daemon)]
    sys.stdout.write("\n".join(parts))


if __name__ == "__main__":
    main()
