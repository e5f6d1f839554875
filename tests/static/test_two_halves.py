"""`make test` shares the tests among two processes, loses nothing either says, and ends both."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.static.places import REPOSITORY

_PATIENCE = 120.0

# Stands in for pytest: says which half it is, and does what the test wrote down for that half.
_PYTEST = """#!/bin/sh
case " $* " in
*" --ignore=tests/unit "*) half=others ;;
*" tests/unit "*) half=units ;;
*) half=whole ;;
esac
echo "$*" >"$half.arguments"
. "./$half.sh"
"""


class Checkout:
    """A folder with our script in it, on a machine with so many cores."""

    def __init__(self, folder: Path, cores: int = 2) -> None:
        self.folder = folder
        self._write("bin/nproc", f"#!/bin/sh\necho {cores}\n")
        self._write(".venv/bin/pytest", _PYTEST)
        (folder / ".ci").mkdir()
        shutil.copy(REPOSITORY / ".ci" / "test", folder / ".ci")
        for half in ("units", "others", "whole"):
            self.do(half, "")

    def _write(self, path: str, content: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True)
        file.write_text(content)
        file.chmod(0o755)

    def do(self, half: str, script: str) -> None:
        (self.folder / f"{half}.sh").write_text(script)

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            [self.folder / ".ci" / "test", *arguments],
            env={**os.environ, "PATH": path, "TMPDIR": str(self.folder)},
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit status, and what was said."""
        with self.begin(*arguments) as process:
            said, _ = process.communicate(timeout=_PATIENCE)
        return process.returncode, said

    def arguments(self, half: str) -> list[str] | None:
        """What its pytest was called with; None if it was not."""
        file = self.folder / f"{half}.arguments"
        return file.read_text().split() if file.exists() else None


def test_each_half_is_run_and_no_skip_is_allowed_in_either(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    assert checkout.run()[0] == 0
    units, others = checkout.arguments("units"), checkout.arguments("others")
    assert units is not None
    assert others is not None
    assert "--forbid-skips" in units
    assert "--forbid-skips" in others
    assert units[-1] == "tests/unit"
    assert others[-2:] == ["tests", "--ignore=tests/unit"]
    assert checkout.arguments("whole") is None


@pytest.mark.parametrize(("cores", "arguments"), [(1, ()), (2, ("-k", "scheduler"))])
def test_one_core_or_arguments_of_ones_own_are_one_process(
    cores: int, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    checkout = Checkout(tmp_path, cores)
    checkout.do("whole", "exit 5")
    assert checkout.run(*arguments)[0] == 5
    assert checkout.arguments("whole") == ["--forbid-skips", *arguments]
    assert checkout.arguments("units") is None


@pytest.mark.parametrize(
    ("units", "others", "expected"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (2, 1, 2)]
)
def test_it_fails_when_either_half_does_and_both_have_run_to_the_end(
    units: int, others: int, expected: int, tmp_path: Path
) -> None:
    checkout = Checkout(tmp_path)
    checkout.do("units", f"echo end of units; exit {units}")
    checkout.do("others", f"echo end of others; exit {others}")
    status, said = checkout.run()
    assert status == expected
    assert said.split("\n") == ["end of others", "", "end of units", ""]


def test_what_the_two_say_at_once_is_shown_one_after_the_other(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    os.mkfifo(tmp_path / "turn")
    # Each line of the one is written between two lines of the other.
    checkout.do("units", "echo unit 1; echo >turn; read -r line <turn; echo unit 2 >&2")
    checkout.do("others", "read -r line <turn; echo other 1; echo >turn; echo other 2")
    assert checkout.run()[1].split("\n") == ["other 1", "other 2", "", "unit 1", "unit 2", ""]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_interrupt_reaches_both_halves_once(is_terminal: bool, tmp_path: Path) -> None:
    """A terminal sends it to the whole group; whoever stops the script tells nobody else."""
    checkout = Checkout(tmp_path)
    for half in ("units", "others"):
        told = f"trap 'echo {half} interrupted; : >{half}.heard' INT; : >{half}.ready"
        checkout.do(half, f"{told}; until [ -e over ]; do sleep 0.05; done; exit 2")
    with checkout.begin() as process:
        try:
            wait_for(tmp_path / "units.ready", tmp_path / "others.ready")
            if is_terminal:
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.terminate()
            wait_for(tmp_path / "units.heard", tmp_path / "others.heard")
        finally:
            (tmp_path / "over").touch()
        said, _ = process.communicate(timeout=_PATIENCE)
    assert said == "others interrupted\n\nunits interrupted\n"
    assert process.returncode == 2
    assert list(tmp_path.glob("unified-llm-test.*")) == []


def wait_for(*files: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while not all(file.exists() for file in files):
        assert time.monotonic() < end
        time.sleep(0.01)
