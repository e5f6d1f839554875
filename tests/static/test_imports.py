"""The import contracts hold, and each of them really refuses what it is there to refuse.

A contract that never refused anything may be checking nothing, so wrong imports are tried one at a
time on a copy of the package.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.static.places import PACKAGE, REPOSITORY, pyproject

# Runs the linter with its own command line, without needing its script on the path.
_LINT = "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"


def _contracts() -> list[dict[str, Any]]:
    contracts: list[dict[str, Any]] = pyproject()["tool"]["importlinter"]["contracts"]
    return contracts


def _name_of(contract: str) -> str:
    (name,) = [str(each["name"]) for each in _contracts() if each["id"] == contract]
    return name


@dataclass(frozen=True, slots=True)
class Report:
    """What import-linter said."""

    kept: bool
    broken: frozenset[str]
    text: str


def _lint(folder: Path) -> Report:
    """Check the contracts of `folder`, whose package is in `folder/daemon`."""
    done = subprocess.run(
        [sys.executable, "-c", _LINT, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "daemon"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    marker = " BROKEN"
    lines = [line for line in done.stdout.splitlines() if line.endswith(marker)]
    broken = frozenset(line.removesuffix(marker) for line in lines)
    return Report(done.returncode == 0, broken, done.stdout + done.stderr)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, to spoil."""
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "daemon" / "unified_llm", ignore=ignored)
    return tmp_path


@pytest.mark.slow
def test_every_contract_is_kept() -> None:
    report = _lint(REPOSITORY)
    assert report.kept, report.text


@dataclass(frozen=True, slots=True)
class Trial:
    """A wrong import: lines to append to files, and the contract that must refuse them."""

    contract: str
    lines: dict[str, str]


_TRIALS = [
    Trial("floors", {"domain/trial.py": "import unified_llm.settings"}),
    Trial("floors", {"guard/trial.py": "import unified_llm.host"}),
    Trial(
        "acyclic",
        {
            "planner/one.py": "import unified_llm.planner.two",
            "planner/two.py": "import unified_llm.planner.one",
        },
    ),
    Trial("pure", {"planner/trial.py": "import asyncio"}),
    Trial("pure", {"scheduler/core.py": "import time"}),
    Trial("surfaces-independent", {"surfaces/http/trial.py": "import unified_llm.surfaces.dbus"}),
    Trial("surfaces-thin", {"surfaces/http/trial.py": "import unified_llm.scheduler"}),
    Trial("organs", {"operations/trial.py": "import unified_llm.fleet"}),
    Trial("cli-client", {"cli/trial.py": "import unified_llm.operations"}),
    Trial("worker-child", {"fleet/trial.py": "import unified_llm.worker.engine"}),
    Trial("worker-small", {"worker/trial.py": "import unified_llm.settings"}),
    Trial("secrets-door", {"guard/trial.py": "import unified_llm.settings.load"}),
    Trial("llama-door", {"fleet/trial.py": "import llama_cpp"}),
    Trial("drivers-independent", {"hardware/nvml.py": "import unified_llm.hardware.amdgpu"}),
    Trial("nvml-door", {"hardware/ram.py": "import pynvml"}),
    Trial("network-door", {"host/trial.py": "import aiohttp"}),
    Trial("dbus-door", {"host/trial.py": "import dbus_next"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "trial", _TRIALS, ids=lambda trial: f"{trial.contract}: {next(iter(trial.lines))}"
)
def test_a_wrong_import_is_refused_by_its_contract(copy: Path, trial: Trial) -> None:
    for path, line in trial.lines.items():
        with (copy / "daemon" / "unified_llm" / path).open("a") as module:
            module.write(f"\n{line}\n")
    report = _lint(copy)
    assert not report.kept
    assert _name_of(trial.contract) in report.broken, report.text


@pytest.mark.slow
def test_a_room_without_a_floor_is_refused(copy: Path) -> None:
    room = copy / "daemon" / "unified_llm" / "attic"
    room.mkdir()
    (room / "__init__.py").touch()
    report = _lint(copy)
    assert not report.kept
    assert "attic" in report.text


def test_every_contract_has_been_tried() -> None:
    assert {trial.contract for trial in _TRIALS} == {contract["id"] for contract in _contracts()}
