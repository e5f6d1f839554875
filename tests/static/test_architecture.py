"""docs/architecture.md says what the contracts and the rooms themselves say."""

import ast
import re

import grimp
import pytest

from tests.static.architecture import (
    DOCUMENT,
    floors,
    parse_room_docstring,
    render_document,
    room_docstring,
)
from tests.static.places import PACKAGE, rooms

_WRITE = "run `python -m tests.static.architecture --write`"


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text()
    assert text == render_document(text), _WRITE


@pytest.mark.parametrize("room", [room.name for room in rooms()])
def test_a_room_introduces_itself_in_four_lines_and_holds_no_code(room: str) -> None:
    init = PACKAGE / room / "__init__.py"
    parse_room_docstring(room_docstring(init.parent))
    assert len(ast.parse(init.read_text()).body) == 1


@pytest.mark.slow
def test_a_room_names_everybody_who_imports_it() -> None:
    graph = grimp.build_graph(PACKAGE.name, cache_dir=None)
    unnamed = {}
    for room in rooms():
        says = parse_room_docstring(room_docstring(room))["Imported by"]
        importers = {
            importer.split(".")[1]
            for module in graph.find_matching_modules(f"{PACKAGE.name}.{room.name}.**")
            for importer in graph.find_modules_that_directly_import(module)
        }
        missing = {name for name in importers - {room.name} if name not in says}
        if missing and not re.search("every room|anyone", says):
            unnamed[room.name] = missing
    assert unnamed == {}


def test_every_room_has_a_floor_and_no_floor_is_a_ghost() -> None:
    existing = {room.name for room in rooms()}
    placed = {name for floor in floors() for name in floor.rooms}
    reserved = {name for floor in floors() for name in floor.reserved}
    assert existing <= placed
    assert placed - existing <= reserved, "no such room, and not in parentheses"


def test_every_module_the_document_names_exists() -> None:
    names = "|".join(room.name for room in rooms())
    mentioned = set(re.findall(rf"(?<![\w./])((?:{names})(?:\.[a-z_]+)+)", DOCUMENT.read_text()))
    assert mentioned, "the document names no module any more"
    missing = {
        name
        for name in mentioned
        if not (PACKAGE / name.replace(".", "/")).is_dir()
        and not (PACKAGE / name.replace(".", "/")).with_suffix(".py").is_file()
    }
    assert not missing


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Purpose: a.\nTouches: b.\nNever: d.",
        "Purpose: a.\nTouches: b.\nNever: c.\nImported by: d.",
        "Purpose: a.\nTouches:\nImported by: c.\nNever: d.",
        "Purpose: a.\nTouches: b.\nImported by: c.\nNever: d.\nAlso: e.",
    ],
    ids=["empty", "one missing", "wrong order", "no sentence", "one too many"],
)
def test_another_form_of_introduction_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"where|should begin"):
        parse_room_docstring(text)
