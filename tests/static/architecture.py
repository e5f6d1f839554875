"""Renders the drawing and the table of rooms in docs/architecture.md from what the tools enforce.

The floors come from the layers contract in pyproject.toml, the sentences from the docstrings of the
rooms. `python -m tests.static.architecture --write` brings the document up to date.
"""

import argparse
import ast
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.static.places import REPOSITORY, pyproject, rooms

DOCUMENT = REPOSITORY / "docs" / "architecture.md"
FIELDS = ("Purpose", "Touches", "Imported by", "Never")


@dataclass(frozen=True, slots=True)
class Floor:
    """One layer of the contract; a reserved room has a place and no line yet."""

    number: int
    rooms: tuple[str, ...]
    reserved: frozenset[str]


def parse_room_docstring(text: str) -> dict[str, str]:
    """The four sentences of a room. ValueError says what is wrong with it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != len(FIELDS):
        raise ValueError(f"{len(lines)} lines where {', '.join(FIELDS)} make four")
    sentences = {}
    for field, line in zip(FIELDS, lines, strict=True):
        name, _, sentence = line.partition(": ")
        if name != field or not sentence:
            raise ValueError(f"{line!r} should begin with {field + ': '!r}")
        sentences[field] = sentence
    return sentences


def room_docstring(room: Path) -> str:
    return ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""


def floors() -> list[Floor]:
    """The layers contract, highest floor first, numbered from the ground."""
    contracts = pyproject()["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    found = []
    for above_ground, layer in zip(reversed(range(len(layers))), layers, strict=True):
        names = [name.strip() for name in layer.split("|")]
        reserved = frozenset(name.strip("()") for name in names if name.startswith("("))
        found.append(Floor(above_ground, tuple(name.strip("()") for name in names), reserved))
    return found


def render_drawing() -> str:
    existing = {room.name for room in rooms()}
    lines = ["```"]
    for floor in floors():
        names = [name if name in existing else f"({name})" for name in floor.rooms]
        lines.append(f"{floor.number:2}  {' | '.join(names)}")
    return "\n".join([*lines, "```"])


def render_table() -> str:
    lines = ["| Floor | Room | " + " | ".join(FIELDS) + " |", "|---|---|---|---|---|---|"]
    homes = {room.name: room for room in rooms()}
    for floor in floors():
        for name in floor.rooms:
            if name in homes:
                sentences = parse_room_docstring(room_docstring(homes[name]))
                cells = (sentences[field].replace("|", "\\|") for field in FIELDS)
                lines.append(f"| {floor.number} | `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def render_document(text: str) -> str:
    """`text` with its generated parts made anew."""
    for part, content in (("floors", render_drawing()), ("rooms", render_table())):
        begin, end = f"<!-- begin {part}: generated -->\n", f"\n<!-- end {part} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"docs/architecture.md has lost its marks around {part}")
        text = f"{before}{begin}{content}{end}{after}"
    return text


def main() -> int:
    """Exit status 0 when the document is, or has been made, up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the document")
    write = parser.parse_args().write
    before = DOCUMENT.read_text()
    after = render_document(before)
    if write:
        DOCUMENT.write_text(after)
    return 0 if write or before == after else 1


if __name__ == "__main__":
    sys.exit(main())
