"""Where things are in the repository, for tests that read it."""

import tomllib
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "daemon" / "unified_llm"
TESTS = REPOSITORY / "tests"


def pyproject() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def rooms() -> list[Path]:
    """The packages that stand on a floor, first level only."""
    return sorted(init.parent for init in PACKAGE.glob("*/__init__.py"))
