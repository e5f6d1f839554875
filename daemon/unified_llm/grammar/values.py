"""Any JSON value, as GBNF."""

from typing import Final

from unified_llm.grammar.gbnf import Grammar, any_of
from unified_llm.grammar.numbers import NUMBER
from unified_llm.grammar.objects import SPACE, map_body, series
from unified_llm.grammar.texts import text_body

BOOLEAN: Final = '"true" | "false"'
NULL: Final = '"null"'


class AnyValue:
    """The rules for values that no schema describes; made when they are first asked for."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._value: str | None = None
        self._object = ""

    def value(self) -> str:
        """The name of the rule for any value."""
        return self._made()[0]

    def object(self) -> str:
        """The name of the rule for any object."""
        return self._made()[1]

    def member(self, name: str, value: str) -> str:
        """A body for the member of an object. name: the body of the name."""
        space = self._grammar.add(SPACE)
        return f'{name} {space} ":" {space} {value}'

    def _made(self) -> tuple[str, str]:
        if self._value is None:
            grammar = self._grammar
            value = self._value = grammar.reserve()
            text = grammar.add(text_body(grammar))
            member = grammar.add(self.member(text, value))
            self._object = grammar.add(map_body(grammar, member, 0, None))
            array = grammar.add(f'"[" {series(grammar, value, 0, None)} "]"')
            number = grammar.add(NUMBER)
            grammar.define(value, any_of([self._object, array, text, number, BOOLEAN, NULL]))
        return self._value, self._object
