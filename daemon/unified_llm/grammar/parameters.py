"""Calls whose arguments stand one by one between markers, as GBNF.

    name <first> key <value> text <end> <following> key <value> text <end> <last>
    name <none>

Qwen3-Coder has `<parameter=` key `>`, a line for the text, and `</parameter>`; GLM-4.5 has
`<arg_key>` key `</arg_key>`, `<arg_value>` text `</arg_value>`. A text without limits, or one of a
list, is written as it is, which is how the models learned it; everything else as JSON. Arguments
stand in the order in which they are declared, and there are no others.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from unified_llm.grammar import fields
from unified_llm.grammar.gbnf import Grammar, any_of, literal
from unified_llm.grammar.objects import Member, in_order
from unified_llm.grammar.references import Schema
from unified_llm.grammar.refusal import Path, refused
from unified_llm.grammar.schema import SchemaCompiler, open_compiler
from unified_llm.grammar.until import until_rule

MAX_KEY_CHARACTERS: Final = 64
_KEY: Final = re.compile(rf"[^\s<>\"'=/]{{1,{MAX_KEY_CHARACTERS}}}")
_CACHED: Final = 128


@dataclass(frozen=True, slots=True)
class ParameterForm:
    """What stands around the arguments of a call.

    first: from the name to the first key. value: from a key to its value. end: after a value.
    following: from there to the next key. last: from there to the end of the call.
    none: from the name to the end of a call without arguments.
    """

    first: str
    value: str
    end: str
    following: str
    last: str
    none: str

    @property
    def texts(self) -> tuple[str, ...]:
        """All of it."""
        return self.first, self.value, self.end, self.following, self.last, self.none


@dataclass(frozen=True, slots=True)
class _Parameter:
    """is_bare: its value is text as it stands. member: what it is in the grammar."""

    key: str
    is_bare: bool
    member: Member


def parameters_rule(grammar: Grammar, form: ParameterForm, schema: str, where: str) -> str:
    """The name of a rule for all that follows the name of a tool. Raises InvalidRequest.

    schema: of its arguments, as text, which is what a refusal calls `where`.
    """
    found = _parameters(grammar, form, schema, where)
    ways = [] if any(each.member.is_required for each in found) else [literal(form.none)]
    if found:
        some = grammar.add(
            in_order(grammar, [each.member for each in found], literal(form.following))
        )
        ways.append(f"{literal(form.first)} {some} {literal(form.last)}")
    return grammar.add(any_of(ways))


@lru_cache(maxsize=_CACHED)
def bare_parameters(form: ParameterForm, schema: str) -> Mapping[str, bool]:
    """The keys of a tool's arguments, and whether the value of each is text as it stands."""
    found = _parameters(Grammar(), form, schema, "parameters")
    return {each.key: each.is_bare for each in found}


def _parameters(grammar: Grammar, form: ParameterForm, schema: str, where: str) -> list[_Parameter]:
    with open_compiler(grammar, schema, where) as (compiler, root):
        return list(_each(grammar, form, compiler, root, (where,)))


def _each(
    grammar: Grammar, form: ParameterForm, compiler: SchemaCompiler, root: object, path: Path
) -> Iterator[_Parameter]:
    flat = compiler.flat(root, path)
    properties, required = _members(flat, path)
    for key, schema in properties.items():
        place = (*path, "properties", key)
        if not _KEY.fullmatch(key):
            raise refused(place, "has a name that this model can not write between its markers")
        if schema is False:
            continue
        bare = _bare_body(grammar, form, compiler.flat(schema, place))
        body = bare or f"{compiler.rule(schema, place)} {literal(form.end)}"
        member = Member(f"{literal(key + form.value)} {body}", key in required)
        yield _Parameter(key, bare is not None, member)


def _members(flat: Schema, path: Path) -> tuple[Schema, tuple[str, ...]]:
    """The properties of an object that is described by them alone, and those that it must have."""
    more = flat.keys() - {"type", "properties", "required", "additionalProperties"}
    if more:
        raise refused((*path, min(more)), "can not be enforced by the way this model writes calls")
    properties = fields.members(flat, "properties", path)
    required = fields.names(flat, "required", path)
    for index, name in enumerate(required):
        if properties.get(name, False) is False:
            raise refused(
                (*path, "required", index), f"names {name[:64]!r}, which properties lacks"
            )
    return properties, required


def _bare_body(grammar: Grammar, form: ParameterForm, flat: Schema) -> str | None:
    """The body of a text as it stands, its end included; None if it is to be written as JSON."""
    if flat == {"type": "string"}:
        return until_rule(grammar, form.end)
    key = "const" if "const" in flat else "enum"
    if key not in flat or flat.keys() - {key, "type"} or flat.get("type", "string") != "string":
        return None
    values = [flat[key]] if key == "const" else flat[key]
    if not isinstance(values, list) or not values or not all(_fits(each, form) for each in values):
        return None
    return grammar.add(any_of(literal(each + form.end) for each in values))


def _fits(value: object, form: ParameterForm) -> bool:
    """Whether it is a text whose end is told by the first end there is."""
    return isinstance(value, str) and (value + form.end).find(form.end) == len(value)
