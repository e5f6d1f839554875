"""Any text up to a marker, as GBNF: the automaton of Knuth, Morris and Pratt, a rule a state."""

from unified_llm.grammar.gbnf import Grammar, any_of, character_class, literal
from unified_llm.grammar.ranges import all_but


def until_rule(grammar: Grammar, marker: str) -> str:
    """The name of a rule for any text that ends with `marker`, which is nowhere else in it."""
    states = [grammar.reserve() for _ in marker]
    for matched, state in enumerate(states):
        grammar.define(state, _body(states, marker, matched))
    return states[0]


def _body(states: list[str], marker: str, matched: int) -> str:
    bodies, followed = [], []
    for character in sorted(set(marker)):
        reached = _matched(marker, marker[:matched] + character)
        if reached == len(marker):
            bodies.append(literal(character))
        elif reached:
            bodies.append(f"{literal(character)} {states[reached]}")
        if reached:
            followed.append((ord(character), ord(character)))
    return any_of([*bodies, f"{character_class(all_but(followed))} {states[0]}"])


def _matched(marker: str, text: str) -> int:
    """How much of the beginning of `marker` stands at the end of `text`."""
    return next(length for length in range(len(text), -1, -1) if text.endswith(marker[:length]))
