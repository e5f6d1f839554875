"""systemd understands the rendered units, and finds little that they leave exposed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nix.evaluation import CONFIGURATIONS, machine

_ENABLED = [name for name in CONFIGURATIONS if name != "disabled"]

# systemd-analyze counts in tenths.
_LIMITS = {"cpu": 6, "cuda": 15, "providers_on_loopback": 15, "cuda_and_providers": 15}
_EXPOSURE = re.compile(r"Overall exposure level for unified-llm\.service: ([0-9.]+)")

# What Debian 12's systemd, release 252, does not know yet, with the release that does. It goes on
# without them; docs/deployment-debian.md has a drop-in that makes up for it.
_NEWER = {
    253: "Failed to parse service type, ignoring: notify-reload",
    254: "Unknown system call group, ignoring: @sandbox",
    257: "Failed to parse boolean value, ignoring: identity",
}


def _systemd_release() -> int:
    done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[1])


def _write_units(name: str, folder: Path) -> None:
    """The units as rendered; only the package's place is this checkout's."""
    for unit, text in machine(CONFIGURATIONS[name])["units"].items():
        package = re.compile(r"/nix/store/0+-unified-llm(?=/)")
        (folder / unit).write_text(package.sub(str(Path(sys.executable).parents[1]), text))


def _analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.system
@pytest.mark.parametrize("name", _ENABLED)
def test_systemd_understands_every_line(name: str, tmp_path: Path) -> None:
    _write_units(name, tmp_path)
    done = _analyze(tmp_path, "verify", "--man=no", "./unified-llm.service", "./unified-llm.socket")
    complaints = {line.partition(": ")[2] for line in done.stderr.splitlines()}
    expected = {words for release, words in _NEWER.items() if _systemd_release() < release}
    assert complaints == expected
    assert done.returncode == 0


@pytest.mark.system
def test_a_users_manager_understands_every_line_of_the_helper(tmp_path: Path) -> None:
    package = Path(sys.executable).parents[1]
    (text,) = machine(CONFIGURATIONS["cpu"])["userUnits"].values()
    unit = tmp_path / "unified-llm-session.service"
    unit.write_text(re.sub(r"/nix/store/0+-unified-llm(?=/)", str(package), text))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.system
@pytest.mark.parametrize("name", _LIMITS)
def test_little_is_exposed(name: str, tmp_path: Path) -> None:
    _write_units(name, tmp_path)
    done = _analyze(
        tmp_path,
        "security",
        "--offline=true",
        "--no-pager",
        f"--threshold={_LIMITS[name]}",
        "./unified-llm.service",
    )
    found = _EXPOSURE.search(done.stdout)
    assert found, done.stdout + done.stderr
    print(f"exposure of {name}: {found.group(1)}, at most {_LIMITS[name] / 10}")
    assert done.returncode == 0, done.stdout


@pytest.mark.system
def test_the_limit_of_exposure_can_be_missed(tmp_path: Path) -> None:
    _write_units("cpu", tmp_path)
    service = tmp_path / "unified-llm.service"
    kept = [line for line in service.read_text().splitlines() if not line.startswith("Protect")]
    service.write_text("\n".join(kept))
    done = _analyze(
        tmp_path, "security", "--offline=true", "--threshold=6", "./unified-llm.service"
    )
    assert done.returncode != 0
