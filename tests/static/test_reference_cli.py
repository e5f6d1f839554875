"""docs/reference/cli.md says what the commands say."""

from pathlib import Path

from unified_llm.cli.reference import render_reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render_reference(), (
        "run: python -m unified_llm.cli.reference > docs/reference/cli.md"
    )


def test_every_command_has_a_text_and_every_option_a_meaning() -> None:
    page = render_reference()
    for command in ("chat", "status", "models list", "models show MODEL", "models load MODEL"):
        assert f"`unified-llm {command}" in page
    assert "|  |" not in page
