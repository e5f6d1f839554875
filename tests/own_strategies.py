"""A package with strategies of its own, as somebody else would install one."""

from pathlib import Path
from typing import Final

MODULE: Final = "strategies_of_a_test"
_CODE: Final = """
NUMBER = 1

def backwards(targets, asking):
    return [each.model for each in reversed(targets)]
"""
_POINTS: Final = f"""
[unified_llm.strategies]
backwards = {MODULE}:backwards
missing = {MODULE}:missing
number = {MODULE}:NUMBER
broken = broken_{MODULE}:any
"""


def write_strategies(folder: Path) -> None:
    """Make `folder` one that can stand in Python's path."""
    (folder / f"{MODULE}.py").write_text(_CODE)
    (folder / f"broken_{MODULE}.py").write_text("raise ValueError('broken on purpose')")
    info = folder / f"{MODULE}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(_POINTS)
