"""docs/reference/providers.md shows the one table of what each kind can be asked for."""

from pathlib import Path

from unified_llm.domain.providers import ProviderKind
from unified_llm.providers.features import SUPPORTED, Feature

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "providers.md"


def table() -> str:
    kinds = list(ProviderKind)
    rows = [
        f"| `{feature.value}` | "
        + " | ".join("yes" if feature in SUPPORTED[kind] else "-" for kind in kinds)
        + " |"
        for feature in Feature
    ]
    head = "| | " + " | ".join(f"`{kind.value}`" for kind in kinds) + " |"
    return "\n".join([head, "|" + "---|" * (len(kinds) + 1), *rows])


def test_the_table_of_features_is_the_one_in_force() -> None:
    begin, end = "<!-- begin features: generated -->\n", "\n<!-- end features -->"
    shown = PAGE.read_text().partition(begin)[2].partition(end)[0]
    assert shown == table(), f"it should be\n{table()}"
