"""Regular expressions of JSON Schema (ECMA-262) as GBNF: those that are regular, within limits.

Understood are literals, `.`, classes, `\\d \\w \\s` and their opposites, groups, alternatives,
`? * + {m,n}`, and `^` and `$` at the ends. What looks around, refers back, or is a property of
Unicode is refused by name, and so is what may repeat nothing: `(a*)*` makes a grammar that doubles
its work at each character.
"""

from dataclasses import dataclass
from typing import Final, NoReturn

from unified_llm.grammar.gbnf import Grammar, Ranges, any_of
from unified_llm.grammar.ranges import all_but, in_json, merged

MAX_PATTERN_CHARACTERS: Final = 500
MAX_PATTERN_REPETITIONS: Final = 512
"""Of nested repetitions multiplied."""
_MAX_NESTED: Final = 16

_DIGITS: Final = ((0x30, 0x39),)
_WORD: Final = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Final = (
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A),
    (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip
_LINE_ENDS: Final = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
_SETS: Final = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS: Final = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D}


class PatternRefused(Exception):
    """The message is half a sentence that says why."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """may_be_empty: whether it matches nothing. weight: how often its parts are repeated."""

    body: str
    may_be_empty: bool
    weight: int = 1


def pattern_body(grammar: Grammar, pattern: str) -> str:
    """A JSON text that matches `pattern`. Raises PatternRefused."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise PatternRefused(f"has {len(pattern)} characters; the most is {MAX_PATTERN_CHARACTERS}")
    # Without an anchor a pattern may match anywhere in the text.
    anything = f"{grammar.add(in_json(all_but(())) or '')}*"
    from_start, to_end = pattern.startswith("^"), _ends_with_anchor(pattern)
    inner = pattern[from_start : len(pattern) - to_end]
    if (from_start or to_end) and "|" in _outside_groups(inner):
        raise PatternRefused("has `|` beside an anchor; put the alternatives into a group")
    piece = _Parser(grammar, inner).whole()
    before, after = ("" if from_start else anything + " "), ("" if to_end else " " + anything)
    return f'"\\"" {before}({piece.body}){after} "\\""'


def _ends_with_anchor(pattern: str) -> bool:
    escapes = len(pattern[:-1]) - len(pattern[:-1].rstrip("\\"))
    return pattern.endswith("$") and escapes % 2 == 0


def _outside_groups(pattern: str) -> str:
    """What is left without groups, classes and escaped characters."""
    kept, depth, is_escaped, in_class = "", 0, False, False
    for character in pattern:
        if is_escaped or character == "\\":
            is_escaped = not is_escaped
        elif in_class or character == "[":
            in_class = character != "]"
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif depth == 0:
            kept += character
    return kept


class _Parser:
    def __init__(self, grammar: Grammar, pattern: str) -> None:
        self._grammar = grammar
        self._pattern = pattern
        self._at = 0
        self._nested = 0

    def whole(self) -> _Piece:
        piece = self._alternatives()
        if self._at < len(self._pattern):
            self._refuse("has a `)` too many")
        return piece

    def _alternatives(self) -> _Piece:
        pieces = [self._sequence()]
        while self._take("|"):
            pieces.append(self._sequence())
        if len(pieces) == 1:
            return pieces[0]
        return _Piece(
            any_of(piece.body for piece in pieces),
            any(piece.may_be_empty for piece in pieces),
            max(piece.weight for piece in pieces),
        )

    def _sequence(self) -> _Piece:
        pieces = []
        while self._next() not in ("", "|", ")"):
            pieces.append(self._quantified(self._atom()))
        return _Piece(
            " ".join(piece.body for piece in pieces) or '""',
            all(piece.may_be_empty for piece in pieces),
            max((piece.weight for piece in pieces), default=1),
        )

    def _quantified(self, piece: _Piece) -> _Piece:
        least, most = self._counts()
        if (least, most) == (1, 1):
            return piece
        self._take("?")  # a lazy one finds another match, of the same texts
        if piece.may_be_empty:
            self._refuse("repeats what may be empty")
        weight = piece.weight * max(least, most or 0, 1)
        if weight > MAX_PATTERN_REPETITIONS:
            self._refuse(f"repeats {weight} times; the most is {MAX_PATTERN_REPETITIONS}")
        body = self._grammar.repeat(piece.body, least, most)
        return _Piece(body, least == 0, weight)

    def _counts(self) -> tuple[int, int | None]:
        for sign, counts in (("?", (0, 1)), ("*", (0, None)), ("+", (1, None))):
            if self._take(sign):
                return counts
        if not self._take("{"):
            return 1, 1
        least = self._number()
        most: int | None = least
        if self._take(","):
            most = None if self._next() == "}" else self._number()
        if not self._take("}"):
            self._refuse("has a `{` that is no repetition")
        if most is not None and most < least:
            self._refuse(f"repeats {least} to {most} times")
        return least, most

    def _number(self) -> int:
        start = self._at
        while self._next().isascii() and self._next().isdigit() and self._at < start + 6:
            self._at += 1
        if start == self._at:
            self._refuse("has a `{` that is no repetition")
        return int(self._pattern[start : self._at])

    def _atom(self) -> _Piece:
        if self._take("("):
            return self._group()
        if self._take("["):
            return self._one_of(self._class())
        if self._take("."):
            return self._one_of(all_but(_LINE_ENDS))
        if self._take("\\"):
            return self._one_of(self._escape())
        character = self._next()
        if character in "^$*+?{":
            self._refuse(f"has a `{character}` where it cannot be enforced")
        self._at += 1
        return self._one_of([(ord(character), ord(character))])

    def _group(self) -> _Piece:
        if self._take("?") and not self._take(":"):
            self._refuse("looks around, or names a group")
        self._nested += 1
        if self._nested > _MAX_NESTED:
            self._refuse(f"nests groups deeper than {_MAX_NESTED}")
        piece = self._alternatives()
        self._nested -= 1
        if not self._take(")"):
            self._refuse("has a `(` that is not closed")
        return _Piece(self._grammar.add(piece.body), piece.may_be_empty, piece.weight)

    def _class(self) -> Ranges:
        is_negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            if not self._next():
                self._refuse("has a `[` that is not closed")
            first = self._class_member()
            if self._next() != "-" or self._pattern[self._at + 1 : self._at + 2] in ("", "]"):
                ranges += first
                continue
            self._at += 1
            ranges.append(self._span(first, self._class_member()))
        return all_but(ranges) if is_negated else merged(ranges)

    def _class_member(self) -> Ranges:
        if self._take("\\"):
            return [(0x08, 0x08)] if self._take("b") else self._escape()
        character = self._pattern[self._at]
        self._at += 1
        return [(ord(character), ord(character))]

    def _span(self, first: Ranges, last: Ranges) -> tuple[int, int]:
        is_single = len(first) == len(last) == 1 and first[0][0] == first[0][1]
        if not is_single or last[0][0] != last[0][1] or first[0][0] > last[0][0]:
            self._refuse("has a range in a class that ends before it begins")
        return first[0][0], last[0][0]

    def _escape(self) -> Ranges:
        character = self._next()
        self._at += 1
        if character.lower() in _SETS:
            ranges = _SETS[character.lower()]
            return ranges if character.islower() else all_but(ranges)
        if character in ("x", "u"):
            return self._code(2 if character == "x" else 4)
        code = _CONTROLS.get(character)
        if code is None and (not character or character.isalnum() or character == "_"):
            self._refuse(f"uses `\\{character}`")
        code = ord(character) if code is None else code
        return [(code, code)]

    def _code(self, length: int) -> Ranges:
        digits = self._pattern[self._at : self._at + length]
        self._at += length
        if len(digits) != length or set(digits.lower()) - set("0123456789abcdef"):
            self._refuse("has an escape that is no character")
        code = int(digits, 16)
        return [(code, code)]

    def _one_of(self, ranges: Ranges) -> _Piece:
        body = in_json(ranges)
        if body is None:
            self._refuse("asks for a character that cannot be written")
        return _Piece(self._grammar.add(body), may_be_empty=False)

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, character: str) -> bool:
        is_there = self._next() == character
        self._at += is_there
        return is_there

    def _refuse(self, reason: str) -> NoReturn:
        raise PatternRefused(reason)
