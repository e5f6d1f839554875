"""Texts as JSON writes them: characters, the formats of JSON Schema, and names to be avoided.

Formats: JSON Schema 2020-12 validation, section 7.3, and the RFCs it names. Each is a part of what
its RFC allows, never more.
"""

from collections.abc import Collection, Mapping
from typing import Final

from unified_llm.grammar.gbnf import Grammar, GrammarTooLarge, any_of, character_class
from unified_llm.grammar.ranges import PLAIN, without

# Halves of characters (\uD800 to \uDFFF) are no text; characters are written as they are.
_UNICODE_ESCAPE: Final = '"u" ([0-9a-cA-CeEfF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2})'
_CHARACTER: Final = f'{character_class(PLAIN)} | "\\\\" (["\\\\/bfnrt] | {_UNICODE_ESCAPE})'

_NOT_CENTURY: Final = '"0" [48] | [2468] [048] | [13579] [26]'
_LEAP_YEAR: Final = f'([1-9] [0-9] ({_NOT_CENTURY}) | ("1" [26] | [2468] [048] | [3579] [26]) "00")'
_DATE: Final = (
    '[1-9] [0-9]{3} "-" ('
    '("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
    ' | ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30")'
    ' | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))'
    f' | {_LEAP_YEAR} "-02-29"'
)
_CLOCK: Final = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
_TIME: Final = f'{_CLOCK} ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [+-] {_CLOCK})'
_BYTE: Final = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9]{2} | [1-9] [0-9] | [0-9])'
_LABEL: Final = "[a-zA-Z0-9] ([a-zA-Z0-9-]{0,30} [a-zA-Z0-9])?"
_HOST: Final = f'{_LABEL} ("." {_LABEL}){{0,7}}'
_ATOM: Final = "[a-zA-Z0-9_+-]{1,30}"
_HEX: Final = "[0-9a-fA-F]"
_URI_CHARACTER: Final = f'([a-zA-Z0-9._~!$&\'()*+,;=:@/?-] | "%" {_HEX} {_HEX})'

_FORMATS: Final[Mapping[str, str]] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'({_DATE}) "T" {_TIME}',
    "uuid": f'{_HEX}{{8}} ("-" {_HEX}{{4}}){{3}} "-" {_HEX}{{12}}',
    "ipv4": f'{_BYTE} ("." {_BYTE}){{3}}',
    "ipv6": f'{_HEX}{{1,4}} (":" {_HEX}{{1,4}}){{7}}',
    "hostname": _HOST,
    "email": f'{_ATOM} ("." {_ATOM}){{0,3}} "@" {_HOST}',
    "uri": f'[a-zA-Z] [a-zA-Z0-9+.-]{{1,19}} ":" {_URI_CHARACTER}{{1,500}}',
}

FORMATS: Final = frozenset(_FORMATS)

MAX_NAME_CHARACTERS: Final = 200


def text_body(grammar: Grammar, least: int = 0, most: int | None = None) -> str:
    """A text of so many characters."""
    return f'"\\"" {grammar.repeat(_CHARACTER, least, most)} "\\""'


def format_body(grammar: Grammar, name: str) -> str:
    """A text in one of FORMATS."""
    return f'"\\"" {grammar.add(_FORMATS[name])} "\\""'


def other_name_body(grammar: Grammar, names: Collection[str]) -> str:
    """A text that is none of `names`, written without escapes, so that none of them is it."""
    longest = max(map(len, names))
    if longest > MAX_NAME_CHARACTERS:
        raise GrammarTooLarge(
            f"has a name of {longest} characters beside additional properties; the most is "
            f"{MAX_NAME_CHARACTERS}"
        )
    rest = grammar.add(f"{character_class(PLAIN)}*")
    return f'"\\"" {_other(grammar, frozenset(names), rest)} "\\""'


def _other(grammar: Grammar, names: frozenset[str], rest: str) -> str:
    """What may follow where all that is left of `names` begins. As deep as a name is long."""
    heads = {name[0] for name in names if name}
    bodies = [
        f"{character_class([(ord(head), ord(head))])} "
        + _other(grammar, frozenset(name[1:] for name in names if name[:1] == head), rest)
        for head in sorted(heads)
        if _is_plain(head)
    ]
    others = without(PLAIN, [(ord(head), ord(head)) for head in heads])
    bodies.append(f"{character_class(others)} {rest}")
    if "" not in names:
        bodies.append('""')
    return grammar.add(any_of(bodies))


def _is_plain(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in PLAIN)
