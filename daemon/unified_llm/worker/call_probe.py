"""Finds out how a model writes calls, by having its chat template write some.

A template that takes tools also writes the calls that were made before, in the very form in which
the model was taught to make them. So no model has to be known by name: what stands around the names
and arguments of two calls that we made up is the form. Templates that write arguments otherwise
than as JSON are asked for one by one as well (`parameter_probe`).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Final

from unified_llm.domain.errors import InvalidRequest
from unified_llm.grammar.calls import ID_SLOT, CallForm
from unified_llm.worker.parameter_probe import parameter_form
from unified_llm.worker.thinking import Tags
from unified_llm.worker.turns import Turn, call_of, tool_of

Render = Callable[[Sequence[Turn], Sequence[Turn], bool], str]
"""Turns, tools, and whether the assistant is about to speak. Raises InvalidRequest."""

_NAMES: Final = ("probe_one", "probe_two")
_IDS: Final = ("probeid01", "probeid02")
_ARGUMENTS: Final = ({"probe_key": "probed first"}, {"probe_key": "probed second"})
_KEYS: Final = ("probe_key", "probe_next")
_TEXTS: Final = ("probed third", "probed fourth")
_SPEECH: Final = "probed speech"
_MAX_CHARACTERS: Final = 200
_NAME_CHARACTER: Final = re.compile(r"[A-Za-z0-9_-]")
_TOOLS: Final = tuple(
    tool_of(
        name,
        "Probe.",
        {"type": "object", "properties": {"probe_key": {"type": "string", "description": "A."}}},
    )
    for name in _NAMES
)
_ASKED: Final[Turn] = {"role": "user", "content": "?"}


def find_call_form(render: Render, tags: Tags | None) -> CallForm | None:
    """The form; None if the template takes no tools or writes calls in none that is known."""
    try:
        before = render([_ASKED], _TOOLS, True)
        if not all(name in before for name in _NAMES):
            return None
        if tags is not None:
            before = before.rstrip().removesuffix(tags.opening)
        spoken = render([_ASKED, {"role": "assistant", "content": _SPEECH}], _TOOLS, False)
        ending = spoken.rpartition(_SPEECH)[2]
        write = partial(_called, render, before)
        one = write(_ARGUMENTS[:1])
        if (form := _form(one, _tried(write, _ARGUMENTS), ending, tags)) is not None:
            return form
        return _parameter_form(write, ending, tags)
    except InvalidRequest:
        return None


def _parameter_form(write: "_Write", ending: str, tags: Tags | None) -> CallForm | None:
    both = dict(zip(_KEYS, _TEXTS, strict=True))
    none, one, two = write([{}]), write([both]), _tried(write, [both, both])
    inside = tuple(each for pair in both.items() for each in pair)
    words = tuple(each for name in _NAMES for each in (name, *inside))
    form = parameter_form(none, one, two, words, ending)
    if form is None:
        return None
    return _sound(replace(form, opening=_clean(form.opening, tags)))


_Write = Callable[[Sequence[Mapping[str, str]]], str]


def _tried(write: _Write, arguments: Sequence[Mapping[str, str]]) -> str | None:
    """None for templates that make one call at a time, such as Llama 3's."""
    try:
        return write(arguments)
    except InvalidRequest:
        return None


def _called(render: Render, before: str, arguments: Sequence[Mapping[str, str]]) -> str:
    """What the template writes for calls with these arguments, as they would be generated."""
    calls = [call_of(*each) for each in zip(_IDS, _NAMES, arguments, strict=False)]
    turn = {"role": "assistant", "content": "", "tool_calls": calls}
    rendered = render([_ASKED, turn], _TOOLS, False)
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(before, rendered, strict=False))
    return rendered[sum(1 for _ in shared) :]


def _form(one: str, two: str | None, ending: str, tags: Tags | None) -> CallForm | None:
    pieces = _around(one, 1)
    if pieces is None:
        return None
    opening, middle, closing = pieces
    between = None
    several = _around(two, 2) if two is not None else None
    if several is not None and several[:2] == [opening, middle] and several[3] == middle:
        between, closing = several[2], several[4]
    opening = _clean(opening, tags)
    closing = closing.removesuffix(ending).rstrip()
    if between is not None:
        between = _with_slot(between)
    return _sound(CallForm(opening, middle, between, _with_slot(closing)))


def _clean(opening: str, tags: Tags | None) -> str:
    """Without the thoughts that may stand before it."""
    return (opening if tags is None else opening.rpartition(tags.closing)[2]).lstrip()


def _around(text: str, count: int) -> list[str] | None:
    """What stands before, between and after the names and arguments of the first `count` calls."""
    pieces = []
    for name, arguments in list(zip(_NAMES, _ARGUMENTS, strict=True))[:count]:
        before, found, rest = text.partition(name)
        if not found:
            return None
        place = _find_json(rest, arguments)
        if place is None:
            return None
        pieces += [before, rest[: place[0]]]
        text = rest[place[1] :]
    return [*pieces, text]


def _find_json(text: str, value: object) -> tuple[int, int] | None:
    """Where `value` stands in `text` as JSON."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            found, end = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        if found == value:
            return match.start(), end
    return None


def _with_slot(text: str) -> str:
    for number in _IDS:
        text = text.replace(number, ID_SLOT)
    return text


def _sound(form: CallForm) -> CallForm | None:
    """`form`, unless its pieces cannot be told from what stands between them."""
    after_name = (form.middle, *(form.parameters.texts[:1] if form.parameters else ()))
    is_short = all(len(piece) <= _MAX_CHARACTERS for piece in form.texts)
    is_clear = bool(form.opening) and not any(map(_NAME_CHARACTER.match, after_name))
    is_whole = not any("probe" in piece for piece in form.texts)
    return form if is_short and is_clear and is_whole else None
