"""The shell scripts are POSIX sh, executable, and shellcheck has nothing to say about them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.static.places import REPOSITORY

_SCRIPTS = sorted(
    path
    for folder in (REPOSITORY / ".ci", REPOSITORY / "tests")
    for path in folder.rglob("*")
    if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh\n")
)


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(script: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [shellcheck, "--shell=sh", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert script.stat().st_mode & 0o111 == 0o111


def test_the_scripts_are_found() -> None:
    assert {"setup", "run", "demo", "test", "debian_tree.sh"} <= {path.name for path in _SCRIPTS}
