"""Sets of characters, as sorted runs of code points, and how JSON writes them inside a text."""

from collections.abc import Iterable
from typing import Final

from unified_llm.grammar.gbnf import Ranges, any_of, character_class, literal

_LAST: Final = 0x10FFFF
_SURROGATES: Final = (0xD800, 0xDFFF)
# What JSON has a short escape for. Other control characters have none and are left out.
_ESCAPES: Final = {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    0x08: "\\b",
    0x09: "\\t",
    0x0A: "\\n",
    0x0C: "\\f",
    0x0D: "\\r",
}
# Those above, and what may not stand in a JSON text as it is. DEL may, but no answer needs it.
_NOT_PLAIN: Final = ((0x00, 0x1F), (ord('"'), ord('"')), (ord("\\"), ord("\\")), (0x7F, 0x7F))


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same set in order, without overlaps."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def all_but(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Every character that is not in `ranges`; halves of characters are none."""
    result, start = [], 0
    for first, last in merged([*ranges, _SURROGATES]):
        if start < first:
            result.append((start, first - 1))
        start = last + 1
    if start <= _LAST:
        result.append((start, _LAST))
    return result


def without(ranges: Ranges, others: Iterable[tuple[int, int]]) -> Ranges:
    """What is in `ranges` and not in `others`."""
    return all_but([*all_but(ranges), *others])


PLAIN: Final = all_but(_NOT_PLAIN)
"""What may stand in a JSON text as it is."""


def in_json(ranges: Ranges) -> str | None:
    """A body for one character of the set as JSON writes it; None if none can be written."""
    plain = without(ranges, _NOT_PLAIN)
    bodies = [character_class(plain)] if plain else []
    bodies += [
        literal(written)
        for code, written in _ESCAPES.items()
        if any(first <= code <= last for first, last in ranges)
    ]
    return any_of(bodies) if bodies else None
