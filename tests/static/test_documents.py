"""Documents lead where they say, and decisions are written in one form."""

import re
from pathlib import Path

import pytest

from tests.static.places import REPOSITORY

_DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_DECISIONS = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))
_ONE_PAGE = 60

_LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#)([^)#]+)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_a_link_leads_to_a_file(document: Path) -> None:
    targets = _LINK.findall(_FENCE.sub("", document.read_text()))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_decisions_are_numbered_without_gap() -> None:
    numbers = [int(path.name.split("-")[0]) for path in _DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("decision", _DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_context_choice_and_consequences_on_one_page(decision: Path) -> None:
    text = decision.read_text()
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["Context", "Choice", "Consequences"]
    assert len(text.splitlines()) <= _ONE_PAGE
