"""Set-up takes no wheel of llama.cpp that can not run on this machine."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path

import pytest

from tests.static.places import REPOSITORY

_WHEEL = "llama_cpp_python-any.whl"


def _version() -> str:
    lines = (REPOSITORY / ".ci" / "constraints.txt").read_text().splitlines()
    (version,) = (line.split("==")[1] for line in lines if line.startswith("llama-cpp-python=="))
    return version


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith(("flags", "Features")))
    return hashlib.sha256(f"{flags}\n".encode()).hexdigest()[:12]


_OURS = "glibc" + platform.libc_ver()[1]
_HERE = f"{_version()}-{platform.machine()}"


def _chosen(cache: Path, *builds: str) -> str | None:
    """The folder of the wheel that set-up chooses among these; None if it would build one."""
    for build in builds:
        folder = cache / "unified-llm" / "wheels" / build
        folder.mkdir(parents=True)
        (folder / _WHEEL).touch()
    done = subprocess.run(
        [REPOSITORY / ".ci" / "setup", "--wheel"],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        assert "there is no wheel" in done.stderr
        return None
    return Path(done.stdout.strip()).parent.name


def test_the_wheel_for_this_c_library_comes_first(tmp_path: Path) -> None:
    ours, older = f"{_HERE}-{_OURS}-{_cpu()}", f"{_HERE}-glibc2.9-{_cpu()}"
    assert _chosen(tmp_path, older, ours) == ours


def test_one_for_an_older_c_library_will_do(tmp_path: Path) -> None:
    older = f"{_HERE}-glibc2.9-{_cpu()}"
    assert _chosen(tmp_path, older) == older


@pytest.mark.parametrize(
    "build",
    [
        f"{_HERE}-glibc99.1-{_cpu()}",
        f"{_HERE}-{_OURS}-0123456789ab",
        f"0.0.1-{platform.machine()}-{_OURS}-{_cpu()}",
        f"{_version()}-another-{_OURS}-{_cpu()}",
        f"{_HERE}-{_OURS}-{_cpu()}.part.7",
    ],
    ids=["newer C library", "another CPU", "another version", "another machine", "half built"],
)
def test_a_wheel_that_can_not_run_here_is_not_taken(build: str, tmp_path: Path) -> None:
    assert _chosen(tmp_path, build) is None
