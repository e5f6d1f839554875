"""docs/reference/errors.md has one row for each error, and it says what the doors say."""

import re

from tests.static.places import REPOSITORY
from unified_llm.bus.faults import NAMES
from unified_llm.domain import errors
from unified_llm.wire.problem import TABLE

_ROW = re.compile(r"^\| `([a-z-]+)` \| (\d+) \| `(\w+)` \| `([\w.]+)` \| .+ \|$", re.MULTILINE)


def test_the_reference_has_every_error_with_its_names_on_both_doors() -> None:
    page = (REPOSITORY / "docs" / "reference" / "errors.md").read_text()
    ours = [error for error in errors.concrete_errors() if error.__module__ == errors.__name__]
    expected = [(error.code, str(TABLE[error][0]), TABLE[error][1], NAMES[error]) for error in ours]
    assert _ROW.findall(page) == expected
