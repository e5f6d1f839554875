"""JSON objects as GBNF: members in the order in which they are declared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from unified_llm.grammar.gbnf import Grammar, any_of

SPACE: Final = '(" " | "\\n" " "{0,16})?'
"""Between the parts of a value. Bounded: a model that has nothing to say writes spaces."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object. body: name, colon and value."""

    body: str
    is_required: bool


def object_body(grammar: Grammar, members: Sequence[Member], other: str | None) -> str:
    """An object with these members in this order, and then any number of `other`, if given."""
    space = grammar.add(SPACE)
    inner = in_order(grammar, members, comma(grammar), other)
    if inner and not any(member.is_required for member in members):
        inner = f"({inner})?"
    return f'"{{" {space} {inner} {space} "}}"'


def in_order(
    grammar: Grammar, members: Sequence[Member], between: str, other: str | None = None
) -> str:
    """Members in this order with `between` between them, and then any number of `other`, if given.

    All that are required, and one at least; nothing where there are none.
    """
    required = next((i for i, member in enumerate(members) if member.is_required), None)
    others = f" {grammar.add(f'{between} {other}')}*" if other else ""
    if required is None:
        return _some(grammar, members, between, other, others)
    before = [f"({member.body} {between})?" for member in members[:required]]
    after = [_following(member, between) for member in members[required + 1 :]]
    return " ".join([*before, members[required].body, *after]) + others


def comma(grammar: Grammar) -> str:
    """The name of the rule for what stands between two members or items."""
    space = grammar.add(SPACE)
    return grammar.add(f'{space} "," {space}')


def _following(member: Member, between: str) -> str:
    body = f"{between} {member.body}"
    return body if member.is_required else f"({body})?"


def _some(
    grammar: Grammar, members: Sequence[Member], between: str, other: str | None, others: str
) -> str:
    """Whichever member comes first has no comma before it."""
    starts = [f"{other}{others}"] if other else []
    rest = others.strip()
    for member in reversed(members):
        starts.append(f"{member.body} {rest}".strip())
        rest = grammar.add(f"({between} {member.body})? {rest}".strip())
    return any_of(reversed(starts))


def map_body(grammar: Grammar, other: str, least: int, most: int | None) -> str:
    """An object of nothing but `other` members, so many of them."""
    return f'"{{" {series(grammar, other, least, most)} "}}"'


def series(grammar: Grammar, item: str, least: int, most: int | None) -> str:
    """So many items with commas between them, and space around."""
    space = grammar.add(SPACE)
    if most == 0:
        return space
    more = grammar.repeat(
        f"{comma(grammar)} {item}", max(0, least - 1), None if most is None else most - 1
    )
    inner = f"{item} {more} {space}"
    return f"{space} {inner}" if least else f"{space} ({inner})?"
