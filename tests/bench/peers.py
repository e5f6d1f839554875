"""Programs of others that benchmarks compare with: kept in a cache, run on a port of 127.0.0.1."""

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

_READY_LIMIT_SECONDS: Final = 300


def peer_cache() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/unified-llm/peers`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "unified-llm" / "peers"


def ensure_environment(name: str, *requirements: str) -> Path:
    """A virtual environment with these packages, made now if the cache does not have it.

    name: of the peer, with its version; one environment for each version of Python.
    """
    folder = peer_cache() / f"{name}-python{platform.python_version()}"
    is_whole = folder / "is-whole"
    if not is_whole.exists():
        print(f"installing {name}, once", flush=True)
        venv.create(folder, clear=True, symlinks=True, with_pip=True)
        pip = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet")
        subprocess.run([*pip, "install", *requirements], check=True)
        is_whole.touch()
    return folder


def ensure_packages(name: str, *requirements: str) -> Path:
    """A folder for `PYTHONPATH` with exactly these packages, made now if the cache lacks it.

    For a peer that is, but for them, part of what is installed here.
    """
    folder = peer_cache() / f"{name}-python{platform.python_version()}"
    is_whole = folder / "is-whole"
    if not is_whole.exists():
        print(f"installing the packages of {name}, once", flush=True)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        subprocess.run(
            [*pip, "--no-deps", "--upgrade", "--target", str(folder), *requirements], check=True
        )
        is_whole.touch()
    return folder


@dataclass(frozen=True, slots=True)
class Peer:
    """One that serves, on a port of 127.0.0.1."""

    port: int
    process: int


@contextmanager
def open_peer(
    command: Sequence[str | Path],
    port: int,
    health: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Peer]:
    """Run `command`, which serves on `port`, and wait until a GET of `health` is answered with 200.

    What it has said is shown if anything goes wrong meanwhile.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
        )
        with process:
            try:
                _wait_until_it_serves(process, f"http://127.0.0.1:{port}{health}")
                yield Peer(port, process.pid)
            except BaseException:
                log.seek(0)
                shutil.copyfileobj(log, sys.stderr.buffer)
                raise
            finally:
                process.kill()


def free_port() -> int:
    """One that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_until_it_serves(process: subprocess.Popen[bytes], health: str) -> None:
    give_up_at = time.monotonic() + _READY_LIMIT_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            if httpx.get(health, timeout=_READY_LIMIT_SECONDS).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} does not serve; exit status {process.poll()}")
