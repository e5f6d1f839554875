"""Daemon and tests are fully typed; both are checked by one strict run (pyproject.toml)."""

import subprocess
import sys

import pytest

from tests.static.places import REPOSITORY


@pytest.mark.slow
def test_daemon_and_tests_type_check() -> None:
    command = [sys.executable, "-m", "mypy", "-p", "unified_llm", "-p", "tests"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
