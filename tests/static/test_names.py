"""Names say what a thing is, and a test stands where its subject stands."""

import subprocess
from pathlib import Path

from tests.static.places import PACKAGE, REPOSITORY, TESTS, python_files, rooms

# A module with such a name collects what had no room; the missing word belongs into domain.
_JUNK_DRAWERS = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}

# Anything else needs a decision record; docs/decisions/0004 explains what is not plain.
_TOP_LEVEL = {
    ".ci", ".gitignore", "LICENSE", "Makefile", "README.md",
    "daemon", "docs", "flake.nix", "nixos-module", "polkit", "pyproject.toml", "tests",
}  # fmt: skip

# Tests of what the modules of a room promise together.
_ABOUT_A_WHOLE_ROOM = {
    "domain/test_words.py": "small values, from modules too small for a test file each",
    "scheduler/test_machine.py": "the whole core against any order of events",
    "scheduler/test_machine_devices.py": "the same, with a GPU, readings and other programs",
    "scheduler/test_rules.py": "the ten rules of the scheduler, which no module of it keeps alone",
    "surfaces/dbus/test_authorisation.py": "one table of who may call what, over all objects",
}


def test_there_are_no_junk_drawers() -> None:
    files = python_files(PACKAGE) + python_files(TESTS)
    found = [path for path in files if _JUNK_DRAWERS & {path.stem, path.parent.name}]
    assert not found


def _is_about_its_room(test: Path) -> bool:
    """Whether a module stands where the test says; test_core_closing.py is about core.py too."""
    package, subject = PACKAGE / test.parent, test.stem.removeprefix("test_")
    modules = {path.stem.strip("_") for path in package.glob("*") if path.stem != "__init__"}
    return any(subject == module or subject.startswith(f"{module}_") for module in modules)


def test_a_unit_test_stands_where_its_module_stands() -> None:
    tests = {path.relative_to(TESTS / "unit") for path in (TESTS / "unit").rglob("test_*.py")}
    astray = {str(test) for test in tests if not _is_about_its_room(test)}
    assert astray == _ABOUT_A_WHOLE_ROOM.keys()


def test_every_room_has_unit_tests() -> None:
    assert [
        room for room in rooms() if not any((TESTS / "unit" / room.name).rglob("test_*.py"))
    ] == []


def test_every_folder_of_tests_is_a_package() -> None:
    # Two test modules of one name in folders without __init__ shadow each other.
    folders = {path.parent for path in TESTS.rglob("test_*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_nothing_new_stands_at_the_top_level() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} <= _TOP_LEVEL
