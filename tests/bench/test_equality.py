"""Where two texts part, and how near the choice was there."""

import math

from tests.bench.equality import Reference, Said, Token, gap_at_difference, make_prompts

_THEIRS = Reference(9, (Token("The", 3.0), Token(" sea", 0.01), Token(" is", 2.0)))


def test_equal_texts_do_not_differ() -> None:
    assert gap_at_difference(_THEIRS, Said(9, "The sea is")) is None


def test_the_gap_is_that_of_the_first_token_that_differs() -> None:
    assert gap_at_difference(_THEIRS, Said(9, "The old sea")) == 0.01
    assert gap_at_difference(_THEIRS, Said(9, "The sea was")) == 2.0
    assert gap_at_difference(_THEIRS, Said(9, "")) == 3.0


def test_nothing_near_explains_more_text_or_another_prompt() -> None:
    assert gap_at_difference(_THEIRS, Said(9, "The sea is blue")) == math.inf
    assert gap_at_difference(_THEIRS, Said(8, "The sea is")) == math.inf


def test_there_are_fifty_prompts_and_no_two_alike() -> None:
    assert len(set(make_prompts())) == 50
