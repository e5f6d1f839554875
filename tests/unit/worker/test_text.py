"""Text leaves the worker in whole characters and without anything of a stop text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.worker.text import CharacterJoiner, StopTexts


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(borders)]


def pass_through(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    filtered = StopTexts(stops)
    text = "".join(filtered.feed(piece) for piece in pieces)
    return text + filtered.flush(), filtered.is_met


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_characters_are_whole_however_tokens_cut_them(text: str, cuts: list[int]) -> None:
    joiner = CharacterJoiner()
    pieces = [joiner.feed(piece) for piece in chop(text.encode(), cuts)]
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


@given(st.lists(st.binary()))
def test_any_bytes_become_text_that_can_be_encoded(pieces: list[bytes]) -> None:
    joiner = CharacterJoiner()
    "".join(joiner.feed(piece) for piece in pieces).encode()


def test_half_a_character_is_held_back() -> None:
    joiner = CharacterJoiner()
    assert joiner.feed("é".encode()[:1]) == ""
    assert joiner.feed("é".encode()[1:] + b"!") == "é!"
    assert joiner.feed(b"\xff") == "\ufffd"


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=4),
    st.lists(st.text("abc", max_size=4)),
)
def test_text_ends_where_the_first_stop_text_begins(stops: list[str], pieces: list[str]) -> None:
    # Whichever stop text is complete first wins; looking at the whole after each character tells.
    whole = "".join(pieces)
    expected, is_met = whole, False
    for end in range(len(whole) + 1):
        found = [whole[:end].find(stop) for stop in stops if stop in whole[:end]]
        if found:
            expected, is_met = whole[: min(found)], True
            break
    assert pass_through(stops, list(whole)) == (expected, is_met)


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=4),
    st.lists(st.text("abc", max_size=6)),
)
def test_no_stop_text_is_ever_shown(stops: list[str], pieces: list[str]) -> None:
    shown, is_met = pass_through(stops, pieces)
    assert not any(stop in shown for stop in stops)
    assert is_met == any(stop in "".join(pieces) for stop in stops)
    assert "".join(pieces).startswith(shown)


@pytest.mark.parametrize(
    ("pieces", "shown_at_once"),
    [(["hello E"], "hello "), (["hello EN"], "hello "), (["hello EX"], "hello EX")],
)
def test_only_what_may_become_a_stop_text_is_held_back(
    pieces: list[str], shown_at_once: str
) -> None:
    filtered = StopTexts(["END"])
    assert "".join(filtered.feed(piece) for piece in pieces) == shown_at_once


def test_nothing_follows_a_stop_text() -> None:
    filtered = StopTexts(["END"])
    assert filtered.feed("a END b") == "a "
    assert filtered.feed("more") == ""
    assert filtered.flush() == ""
