"""Names say what a thing is, and a test stands where its subject stands."""

import subprocess
from pathlib import Path

import pytest

from tests.static.places import PACKAGE, REPOSITORY, TESTS, python_files, rooms

# A module with such a name collects what had no room; the missing word belongs into domain.
_JUNK_DRAWERS = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}

# What DESIGN fixed for the top level; anything else needs a decision record (docs/decisions/0004).
_TOP_LEVEL = {
    ".ci", ".gitignore", "LICENSE", "Makefile", "README.md",
    "daemon", "docs", "polkit", "pyproject.toml", "tests",
}  # fmt: skip

# Tests of what the modules of a room promise together.
_ABOUT_A_WHOLE_ROOM = {
    "scheduler/test_rules.py": "the ten rules of the scheduler, which no module of it keeps alone",
}

_UNIT_TESTS = sorted(
    path.relative_to(TESTS / "unit") for path in (TESTS / "unit").rglob("test_*.py")
)


def test_there_are_no_junk_drawers() -> None:
    files = python_files(PACKAGE) + python_files(TESTS)
    found = [path for path in files if _JUNK_DRAWERS & {path.stem, path.parent.name}]
    assert not found


@pytest.mark.parametrize("test", _UNIT_TESTS, ids=str)
def test_a_unit_test_stands_where_its_module_stands(test: Path) -> None:
    subject = test.stem.removeprefix("test_")
    package = PACKAGE / test.parent
    assert package.is_dir(), "no such room"
    if str(test) in _ABOUT_A_WHOLE_ROOM:
        return
    modules = [path.stem.strip("_") for path in package.iterdir() if path.stem != "__init__"]
    # test_core_closing.py is about core.py too.
    assert any(subject == module or subject.startswith(f"{module}_") for module in modules)


@pytest.mark.parametrize("room", [room.name for room in rooms()])
def test_a_room_has_unit_tests(room: str) -> None:
    assert list((TESTS / "unit" / room).rglob("test_*.py"))


def test_every_folder_of_tests_is_a_package() -> None:
    # Two test modules of one name in folders without __init__ shadow each other.
    folders = {path.parent for path in TESTS.rglob("test_*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_nothing_new_stands_at_the_top_level() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} <= _TOP_LEVEL
