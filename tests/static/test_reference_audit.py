"""docs/reference/audit.md names every field and every word of the audit log."""

import re
from pathlib import Path

from tests.unit.guard.test_audit import record
from unified_llm.domain.events import Move
from unified_llm.guard.audit import Outcome
from unified_llm.guard.permissions import Action

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "audit.md"


def test_every_field_has_its_row_and_no_row_is_left_over() -> None:
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE))
    assert rows == set(record(code="internal", reason="a reason").fields())


def test_every_action_and_result_is_named() -> None:
    page = PAGE.read_text()
    for word in (*(action.label for action in Action), *Move, *Outcome):
        assert f"`{word}`" in page
