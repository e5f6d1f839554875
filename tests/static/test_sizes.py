"""No module and no function grows beyond what one can hold in mind."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.static.places import PACKAGE, REPOSITORY, TESTS, python_files

_MODULE_ASK_YOURSELF = 400
_MODULE_REFUSED = 600
_FUNCTION_REFUSED = 60

# Modules over 400 lines, each with the reason why it is one thing.
_LONG_FOR_A_REASON: dict[str, str] = {}

_FILES = [str(path.relative_to(REPOSITORY)) for path in python_files(PACKAGE) + python_files(TESTS)]


def _length(module: str | Path) -> int:
    return len((REPOSITORY / module).read_text().splitlines())


def _functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each function, decorators left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("module", _FILES)
def test_a_module_is_not_too_long(module: str) -> None:
    length = _length(module)
    assert length <= _MODULE_REFUSED, "which two rooms are in there?"
    if length > _MODULE_ASK_YOURSELF:
        assert module in _LONG_FOR_A_REASON, f"{length} lines: split it, or write down why not"


@pytest.mark.parametrize("module", _FILES)
def test_a_function_is_not_too_long(module: str) -> None:
    lengths = _functions((REPOSITORY / module).read_text())
    assert [(name, length) for name, length in lengths if length > _FUNCTION_REFUSED] == []


def test_an_excuse_is_dropped_when_no_longer_needed() -> None:
    lengths = {module: _length(module) for module in _LONG_FOR_A_REASON}
    assert all(length > _MODULE_ASK_YOURSELF for length in lengths.values()), lengths


def test_functions_are_measured_wherever_they_stand() -> None:
    source = "class A:\n    async def a(self):\n        def b():\n            pass\n        pass\n"
    assert dict(_functions(source)) == {"a": 4, "b": 2}
