"""docs/reference/sampling.md says of every sampling number what the code does."""

import pytest

from tests.static.places import REPOSITORY
from unified_llm.domain.sampling import MAX_BIAS, MAX_BIASES, NUMBERS

PAGE = (REPOSITORY / "docs" / "reference" / "sampling.md").read_text()


@pytest.mark.parametrize("name", NUMBERS)
def test_range_and_default_of_every_number_are_there(name: str) -> None:
    number = NUMBERS[name]
    default = "drawn" if number.default is None else number.default
    assert f"| `{name}` | {number} | {default} |" in PAGE


@pytest.mark.parametrize("name", [name for name, number in NUMBERS.items() if number.off == 0])
def test_where_a_number_is_off_is_there(name: str) -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    assert "0 is off" in line


def test_the_bounds_of_biases_are_there() -> None:
    assert f"up to {MAX_BIASES} tokens, -{MAX_BIAS:g} to {MAX_BIAS:g}" in PAGE
