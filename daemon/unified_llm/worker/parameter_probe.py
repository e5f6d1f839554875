"""How a template writes calls whose arguments stand one by one, by the calls it was given."""

import re
from collections.abc import Sequence
from typing import Final

from unified_llm.grammar.calls import CallForm
from unified_llm.grammar.parameters import ParameterForm

_TAG: Final = re.compile(r"\s*<[^<>\s]+>")
_AFTER_KEY: Final = re.compile(r"[\s<>\"'=/]")


def parameter_form(
    none: str, one: str, two: str | None, words: Sequence[str], ending: str
) -> CallForm | None:
    """The form; None if there is none.

    none, one, two: what was written for a call without arguments, for one with two of them, and for
    two such calls. words: the names, keys and values that were given, in the order of their use.
    ending: what ends a turn.
    """
    parts = split_by(one, words[: len(words) // 2])
    without = split_by(none, words[:1])
    if parts is None or without is None or without[0] != parts[0] or parts[2] != parts[4]:
        return None
    opening, first, value, following, _, last = parts
    tag = _TAG.match(following)
    if tag is None or not last.startswith(tag[0]) or not _AFTER_KEY.match(value):
        return None
    end = tag[0]
    form = ParameterForm(
        first=first,
        value=value,
        end=end,
        following=following.removeprefix(end),
        last=_trimmed(last, ending).removeprefix(end),
        none=_trimmed(without[1], ending),
    )
    if not _is_clear(form):
        return None
    return CallForm(opening, "", _between(two, words, parts, form), "", form)


def split_by(text: str, words: Sequence[str]) -> list[str] | None:
    """What stands around `words`, in their order; None if one of them is not there."""
    pieces = []
    for word in words:
        before, found, text = text.partition(word)
        if not found:
            return None
        pieces.append(before)
    return [*pieces, text]


def _trimmed(text: str, ending: str) -> str:
    return text.removesuffix(ending).rstrip()


def _is_clear(form: ParameterForm) -> bool:
    """Whether each place tells by itself which of two markers stands there."""
    pairs = ((form.first, form.none), (form.following, form.last))
    return all(form.texts) and not any(
        one.startswith(other) or other.startswith(one) for one, other in pairs
    )


def _between(
    two: str | None, words: Sequence[str], parts: list[str], form: ParameterForm
) -> str | None:
    """From the end of a call to the name of the next; None if there is no next."""
    pieces = None if two is None else split_by(two, words)
    if pieces is None or pieces[:5] != parts[:5] or pieces[6:10] != parts[1:5]:
        return None
    whole = form.end + form.last
    return pieces[5].removeprefix(whole) if pieces[5].startswith(whole) else None
