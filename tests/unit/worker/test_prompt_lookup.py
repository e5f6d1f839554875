"""Prompt lookup: what followed the same tokens before."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.worker.prompt_lookup import PromptLookup

_TOKENS = st.lists(st.sampled_from([0, 1, 2, 256, 65_536, 2**31 - 1]), max_size=60)


def slowly(tokens: Sequence[int], most: int) -> tuple[int, ...]:
    """The same by trying every place."""
    for match in (8, 5, 3):
        for place in range(len(tokens) - 1, match - 1, -1):
            if len(tokens) > match and tokens[place - match : place] == tokens[-match:]:
                grown = list(tokens)
                while len(grown) < len(tokens) + most:
                    grown.append(grown[place + len(grown) - len(tokens)])
                return tuple(grown[len(tokens) :])
    return ()


@given(_TOKENS, _TOKENS, st.integers(1, 16))
def test_a_draft_goes_on_from_the_latest_place_that_is_most_alike(
    prompt: list[int], answer: list[int], most: int
) -> None:
    lookup = PromptLookup(prompt)
    for token in answer:
        lookup.extend(token)
    assert lookup.draft(most) == slowly([*prompt, *answer], most)


@pytest.mark.parametrize(
    ("tokens", "draft"),
    [
        ([], ()),
        ([1, 2, 3, 4], ()),
        ([1, 2, 3, 9, 8, 7, 1, 2, 3], (9, 8, 7, 1, 2, 3, 9, 8)),
        ([1, 2, 3, 9, 1, 2, 3, 8, 1, 2, 3], (8, 1, 2, 3, 8, 1, 2, 3)),
        ([5, 5, 5, 5], (5,) * 8),
        ([4, 1, 2, 3, 4, 5, 9, 0, 0, 3, 4, 5, 8, 0, 1, 2, 3, 4, 5], (9, 0, 0, 3, 4, 5, 8, 0)),
    ],
    ids=["nothing", "never before", "quoted", "latest", "repeating", "longer match first"],
)
def test_what_is_drafted(tokens: list[int], draft: tuple[int, ...]) -> None:
    assert PromptLookup(tokens).draft(8) == draft


def test_a_prompt_made_of_shifted_matches_is_not_searched_to_its_end() -> None:
    found_at_last = [256, 256, 256, 9]
    few, many = (
        PromptLookup([*found_at_last, *[65_536] * count, 256, 256, 256]) for count in (100, 100_000)
    )
    assert few.draft(1) == (9,)
    assert many.draft(1) == ()


def test_bytes_that_are_alike_across_the_borders_of_tokens_are_no_match() -> None:
    shifted = [0x0100_0000 * byte for byte in (1, 2, 3, 4)]
    lookup = PromptLookup([*shifted, 7, 1, 2, 3])
    assert lookup.draft(4) == ()
