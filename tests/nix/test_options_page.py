"""docs/reference/nixos-options.md says what the module declares."""

from pathlib import Path

import pytest

from tests.nix.evaluation import LIBRARIES, MINILIB, options
from tests.nix.options_page import render_page
from tests.static.places import REPOSITORY

_PAGE = REPOSITORY / "docs" / "reference" / "nixos-options.md"


def test_the_page_is_up_to_date() -> None:
    assert _PAGE.read_text() == render_page(), (
        "run: python -m tests.nix.options_page > docs/reference/nixos-options.md"
    )


def test_every_option_says_what_it_is_for() -> None:
    assert [each["name"] for each in options() if not each["description"]] == []


def test_every_option_but_those_of_a_required_name_has_a_default() -> None:
    without = {each["name"].rpartition(".")[2] for each in options() if "default" not in each}
    assert without == {"file", "kind", "path", "repo"}


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_both_libraries_list_the_same_options(library: Path) -> None:
    listed = {each["name"] for each in options(library)}
    assert listed == {each["name"] for each in options(MINILIB)}
