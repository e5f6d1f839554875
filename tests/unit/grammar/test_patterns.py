"""Patterns that are regular and small are taken; all others are refused with the reason."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.grammar.gbnf import Grammar, GrammarTooLarge
from unified_llm.grammar.patterns import PatternRefused, pattern_body


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("^(a*)*$", "may be empty"),
        ("^(a|b?)+$", "may be empty"),
        ("^(a{0,50}){0,50}$", "may be empty"),
        ("^(a{1,50}){1,50}$", "repeats 2500 times"),
        ("^a{2147483647}$", "no repetition"),
        ("^a{600}$", "repeats 600 times"),
        ("^a{3,2}$", "repeats 3 to 2"),
        ("^[z-a]$", "ends before it begins"),
        (r"^[\d-z]$", "ends before it begins"),
        ("^(?<=x)a$", "looks around"),
        ("^(?=a)b$", "looks around"),
        ("^*$", "where it cannot be enforced"),
        ("a^b", "where it cannot be enforced"),
        ("^a|b$", "put the alternatives into a group"),
        (r"^\p{L}+$", r"uses `\p`"),
        (r"^(a)\1$", r"uses `\1`"),
        (r"\bword\b", r"uses `\b`"),
        ("^(a$", "not closed"),
        ("^a)$", "too many"),
        ("^[a$", "not closed"),
        ("^[]$", "cannot be written"),
        (r"^\x00$", "cannot be written"),
        (r"^\u12$", "no character"),
        ("a" * 501, "501 characters"),
        ("(" * 5000 + "a" + ")" * 5000, "10001 characters"),
        ("(" * 17 + "a" + ")" * 17, "deeper than 16"),
    ],
)
def test_what_is_not_understood_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(PatternRefused) as caught:
        pattern_body(Grammar(), pattern)
    assert reason in str(caught.value)


@given(st.text(st.sampled_from("ab^$\\.*+?()[]{}|,-019dwxu:="), max_size=24) | st.text())
def test_any_text_is_taken_or_refused(pattern: str) -> None:
    grammar = Grammar()
    with suppress(PatternRefused, GrammarTooLarge):
        assert grammar.render(pattern_body(grammar, pattern)).startswith("root ::= ")
