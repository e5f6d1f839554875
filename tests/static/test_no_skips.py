"""The watch over skips is itself watched: it must turn a run red, and only for the right skips."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.static.places import REPOSITORY

_OK = 0


def _run(folder: Path, source: str, *arguments: str, ci: bool = False) -> int:
    (folder / "test_sample.py").write_text(f"import pytest\n{source}\n")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a GPU\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "CI": "true" if ci else "",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.no_skips", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, check=False
    ).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "def test_a(): pytest.skip('no dbus-daemon')",
        "@pytest.mark.skip\ndef test_a(): pass",
        "pytest.importorskip('a_module_that_is_not_there')",
        "@pytest.mark.gpu\ndef test_a(): pass\ndef test_b(): pytest.skip('no')",
    ],
    ids=["at run time", "by mark", "while collecting", "beside a gpu test"],
)
def test_a_skip_turns_a_strict_run_red(tmp_path: Path, source: str) -> None:
    assert _run(tmp_path, source, "--forbid-skips") != _OK


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "@pytest.mark.gpu\ndef test_a(): pytest.skip('no device')",
        "@pytest.mark.xfail(strict=True)\ndef test_a(): raise AssertionError",
        "def test_a(): pass",
    ],
    ids=["gpu", "expected failure", "passed"],
)
def test_a_missing_gpu_and_an_expected_failure_are_forgiven(tmp_path: Path, source: str) -> None:
    assert _run(tmp_path, source, "--forbid-skips") == _OK


@pytest.mark.slow
def test_continuous_integration_is_always_strict(tmp_path: Path) -> None:
    assert _run(tmp_path, "def test_a(): pytest.skip('no dbus-daemon')", ci=True) != _OK


@pytest.mark.slow
def test_a_developer_may_skip_while_working(tmp_path: Path) -> None:
    assert _run(tmp_path, "def test_a(): pytest.skip('not now')\ndef test_b(): pass") == _OK
