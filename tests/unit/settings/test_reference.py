"""settings.reference and settings.describe."""

from pathlib import Path

from unified_llm.settings.describe import all_settings, names_at, schema_at
from unified_llm.settings.reference import render_reference
from unified_llm.settings.schema import Settings

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    """If not: python -m unified_llm.settings.reference > docs/reference/settings.md"""
    assert PAGE.read_text() == render_reference()


def test_the_page_has_every_setting() -> None:
    page = render_reference()
    for path, _ in all_settings():
        section, row = f"## `{'.'.join(path[:-1])}`\n", f"| `{path[-1]}` |"
        assert row in page.partition(section)[2].partition("\n## ")[0], path


def test_the_page_has_every_section() -> None:
    sections = {path[0] for path, _ in all_settings()}
    assert sections == set(Settings.model_fields)


def test_a_path_leads_to_its_schema() -> None:
    assert (
        schema_at(("scheduler", "queue_limit")) == dict(all_settings())["scheduler", "queue_limit"]
    )
    assert schema_at(("models", "any/model", "slots")) is not None
    assert schema_at(("models", "directory", "x")) is None
    assert schema_at(("nowhere",)) is None
    assert "slots" in names_at(("models", "any/model"))
    assert names_at(("nowhere",)) == ()
