"""Writing GBNF, the grammar notation of llama.cpp, within bounds.

What is written here llama.cpp has to parse in native code, where 27 bytes can make it give up and
30,000 brackets overflow its stack. So only names of rules and single characters are ever repeated,
and all that is counted has a limit.
Notation: llama.cpp, grammars/README.md.
"""

from collections.abc import Iterable, Sequence
from typing import Final

MAX_RULES: Final = 4000
MAX_GRAMMAR_BYTES: Final = 256 * 1024
MAX_COUNT: Final = 1000
"""Of one repetition. llama.cpp refuses 2,001, and takes a larger upper bound for none at all."""
MAX_REPETITIONS: Final = 10_000
"""Of all repetitions together: llama.cpp makes an element or a rule for each."""

Ranges = Sequence[tuple[int, int]]
"""Code points, first and last of each run."""


class GrammarTooLarge(Exception):
    """A limit of this module. The message is half a sentence that says which."""


class Grammar:
    """Rules under construction. The same body twice makes one rule."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._bytes = 0
        self._repetitions = 0

    def add(self, body: str) -> str:
        """The name of a rule with this body."""
        name = self._names.get(body)
        if name is None:
            name = self._names[body] = self.reserve()
            self.define(name, body)
        return name

    def reserve(self) -> str:
        """A name to be defined later, for rules that contain themselves."""
        name = f"r{len(self._bodies)}"
        self._bodies[name] = ""
        if len(self._bodies) > MAX_RULES:
            raise GrammarTooLarge(f"needs more than {MAX_RULES} rules")
        return name

    def define(self, name: str, body: str) -> None:
        """Give a reserved name its body."""
        self._bodies[name] = body
        self._bytes += len(name) + len(body.encode()) + len(" ::= \n")
        if self._bytes > MAX_GRAMMAR_BYTES:
            raise GrammarTooLarge(f"needs a grammar of more than {MAX_GRAMMAR_BYTES} bytes")

    def repeat(self, body: str, least: int, most: int | None) -> str:
        """`body` at least and at most so many times; None for any number."""
        highest = least if most is None else most
        if highest > MAX_COUNT:
            raise GrammarTooLarge(f"counts to {highest}; the most is {MAX_COUNT}")
        self._repetitions += highest
        if self._repetitions > MAX_REPETITIONS:
            raise GrammarTooLarge(f"has more than {MAX_REPETITIONS} repetitions in all")
        if most == 0:
            return '""'
        one = self.add(body)
        if most is None:
            return f"{one}*" if least == 0 else f"{one}{{{least},}}"
        return f"{one}{{{least},{most}}}"

    def render(self, root: str) -> str:
        """The whole grammar; it begins with the body `root`."""
        rules = [f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self._bodies.items())]
        return "\n".join(rules) + "\n"


def literal(text: str) -> str:
    """Exactly this text."""
    return '"' + "".join(_quoted(character) for character in text) + '"'


def any_of(bodies: Iterable[str]) -> str:
    """One of several bodies."""
    return " | ".join(bodies)


def character_class(ranges: Ranges) -> str:
    """One character out of `ranges`, which are not empty."""
    return "[" + "".join(_span(first, last) for first, last in ranges) + "]"


def _span(first: int, last: int) -> str:
    return _escaped(first) if first == last else f"{_escaped(first)}-{_escaped(last)}"


def _quoted(character: str) -> str:
    is_plain = character.isprintable() and character not in '"\\'
    return character if is_plain else _escaped(ord(character))


def _escaped(code: int) -> str:
    character = chr(code)
    if character.isascii() and character.isalnum():
        return character
    if code <= 0xFF:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
