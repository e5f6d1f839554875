"""No module and no function grows beyond what one can hold in mind."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.static.places import PACKAGE, REPOSITORY, TESTS, python_files

_MODULE_ASK_YOURSELF = 400
_MODULE_REFUSED = 600
_FUNCTION_REFUSED = 60

# Modules of the daemon over 400 lines, each with the reason why it is one thing.
_LONG_FOR_A_REASON: dict[str, str] = {}


def _length(module: Path) -> int:
    return len(module.read_text().splitlines())


def _functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each function, decorators left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_module_holds_two_rooms() -> None:
    lengths = {module: _length(module) for module in python_files(PACKAGE) + python_files(TESTS)}
    assert {module: n for module, n in lengths.items() if n > _MODULE_REFUSED} == {}


def test_a_long_module_of_the_daemon_has_its_reason_written_down() -> None:
    lengths = {
        str(module.relative_to(PACKAGE)): _length(module) for module in python_files(PACKAGE)
    }
    long = {module: n for module, n in lengths.items() if n > _MODULE_ASK_YOURSELF}
    assert long.keys() == _LONG_FOR_A_REASON.keys(), f"split it, or say why not: {long}"


def test_no_function_is_too_long() -> None:
    found = [
        (str(module.relative_to(REPOSITORY)), name, length)
        for module in python_files(PACKAGE) + python_files(TESTS)
        for name, length in _functions(module.read_text())
    ]
    assert [each for each in found if each[-1] > _FUNCTION_REFUSED] == []


def test_functions_are_measured_wherever_they_stand() -> None:
    source = "class A:\n    async def a(self):\n        def b():\n            pass\n        pass\n"
    assert dict(_functions(source)) == {"a": 4, "b": 2}
