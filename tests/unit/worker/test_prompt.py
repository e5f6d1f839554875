"""Text never becomes a special token, whatever the tokeniser recognises by itself."""

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.errors import InvalidRequest
from unified_llm.worker.placeholders import Part
from unified_llm.worker.prompt import begun_parts, encode_prompt, encode_text
from unified_llm.worker.thinking import Tags, Thinking

_MARKERS = ("<a>", "<b>", "<<", "a>")


@dataclass
class CharacterVocabulary:
    """One token per character, and special ones from 1000 on.

    always: recognised in any text, as user-defined tokens are; the others only in markup.
    """

    markers: tuple[str, ...] = _MARKERS
    always: frozenset[str] = frozenset()
    leading_token: int | None = None
    stripping: frozenset[str] = field(default_factory=frozenset)

    def tokenise(self, text: str, *, parse_special: bool) -> list[int]:
        known = self.markers if parse_special else tuple(self.always)
        pattern = "|".join([*(re.escape(each) for each in known), "."])
        return [self._token(each) for each in re.findall(pattern, text, re.DOTALL)]

    def _token(self, text: str) -> int:
        return 1000 + self.markers.index(text) if text in self.markers else ord(text) % 1000

    def text_of(self, token: int) -> str:
        return self.markers[token - 1000] if token >= 1000 else chr(token)

    def is_special(self, token: int) -> bool:
        return token >= 1000

    def is_end(self, token: int) -> bool:
        return False

    def strips(self, token: int) -> tuple[bool, bool]:
        strips = self.text_of(token) in self.stripping
        return strips, strips


def markup(text: str) -> Part:
    return Part(text, is_markup=True)


def words(text: str) -> Part:
    return Part(text, is_markup=False)


def shown(tokens: list[int], vocabulary: CharacterVocabulary) -> str:
    return "".join(
        f"[{vocabulary.text_of(token)}]" if vocabulary.is_special(token) else chr(token)
        for token in tokens
    )


def encode(vocabulary: CharacterVocabulary, *parts: Part) -> str:
    return shown(encode_prompt(parts, vocabulary), vocabulary)


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (None, "[<a>]Hi <b>"),
        (Thinking(Tags("<o>", "<b>"), is_open=False), "[<a>]Hi <b>"),
        (Thinking(Tags("<o>", "<b>"), is_open=True), "[<a>]\n\n[<b>]\n\nHi <b>"),
    ],
)
def test_what_an_answer_begins_with_is_text_and_thinking_is_over(
    thinking: Thinking | None, expected: str
) -> None:
    parts = begun_parts("Hi <b>", thinking)
    assert encode(CharacterVocabulary(), markup("<a>"), *parts) == expected
    assert begun_parts("", thinking) == ()


def test_special_tokens_come_from_markup_only() -> None:
    vocabulary = CharacterVocabulary()
    assert encode(vocabulary, markup("<a>x"), words("<a>"), markup("y<b>")) == "[<a>]x<a>y[<b>]"


def test_user_defined_tokens_come_from_markup_only_too() -> None:
    vocabulary = CharacterVocabulary(always=frozenset(_MARKERS))
    assert encode(vocabulary, markup("<a>x"), words("<a><b>"), markup("<b>")) == "[<a>]x<a><b>[<b>]"


def test_markup_and_text_do_not_make_a_marker_together() -> None:
    vocabulary = CharacterVocabulary(always=frozenset(_MARKERS))
    assert encode(vocabulary, markup("<"), words("a"), markup(">!")) == "<a>!"


def test_the_leading_token_is_there_once() -> None:
    vocabulary = CharacterVocabulary(leading_token=1000)
    assert encode(vocabulary, markup("x")) == "[<a>]x"
    assert encode(vocabulary, markup("<a>x")) == "[<a>]x"
    assert encode(vocabulary, words("<a>")) == "[<a>]<a>"


def test_a_special_token_may_swallow_the_space_around_it() -> None:
    vocabulary = CharacterVocabulary(stripping=frozenset({"<a>"}))
    assert encode(vocabulary, markup("x  <a>\n y <b> z")) == "x[<a>]y [<b>] z"


@given(
    st.text("<ab> ", max_size=40),
    st.frozensets(st.sampled_from(_MARKERS)),
)
def test_no_text_ever_yields_a_special_token_or_loses_a_character(
    text: str, always: frozenset[str]
) -> None:
    vocabulary = CharacterVocabulary(always=always)
    assert "".join(chr(token) for token in encode_text(text, vocabulary)) == text


def test_a_marker_that_cannot_be_cut_is_refused() -> None:
    vocabulary = CharacterVocabulary(markers=("§",), always=frozenset("§"))
    with pytest.raises(InvalidRequest, match="own markup"):
        encode_text("a§b", vocabulary)
