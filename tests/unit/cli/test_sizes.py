"""Sizes on the command line."""

import pytest
import typer

from unified_llm.cli.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 * 2**30),
        ("512M", 512 * 2**20),
        ("6.5GiB", 13 * 2**29),
        ("1 tb", 2**40),
        ("0", 0),
        ("100B", 100),
    ],
)
def test_a_size_is_a_number_and_a_binary_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "8X", "-1G", "G", "1e9", "8GG", "1" * 20, "٣G"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no size"):
        parse_size(text)
