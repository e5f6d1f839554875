"""ruff finds nothing to say, and nothing to format."""

import subprocess
import sys

import pytest

from tests.static.places import REPOSITORY


def _ruff(*arguments: str) -> None:
    command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "daemon", "tests"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_code_obeys_the_linter() -> None:
    _ruff("check")


def test_the_code_is_formatted() -> None:
    _ruff("format", "--check")
