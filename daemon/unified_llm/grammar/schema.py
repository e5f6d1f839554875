"""JSON Schema to GBNF. Every text that the grammar lets pass matches the schema.

The other direction does not hold in full, and need not: an object has its members in the order in
which they are declared, and no others unless `additionalProperties` is there and allows them.

Rule 1: what cannot be enforced is refused by its path, never ignored (`keywords`).
Rule 2: work is bounded by depth, by schemas looked at, by bytes, and by the limits of `gbnf`.
Rule 3: a schema is a rule of the grammar, found again by its text, so that one that refers to
itself ends in a rule that refers to itself. It must do so inside an object or an array.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, NoReturn

from unified_llm.grammar import fields
from unified_llm.grammar.disjoint import are_disjoint
from unified_llm.grammar.gbnf import Grammar, GrammarTooLarge, any_of, literal
from unified_llm.grammar.keywords import (
    ALTERNATIVES,
    ANNOTATIONS,
    UNDERSTOOD,
)
from unified_llm.grammar.merging import canonical, merge
from unified_llm.grammar.objects import Member, comma, map_body, object_body, series
from unified_llm.grammar.references import Schema, resolve
from unified_llm.grammar.refusal import Path, refused
from unified_llm.grammar.scalars import listed_bodies, number_of, text_of, types_of
from unified_llm.grammar.texts import other_name_body, text_body
from unified_llm.grammar.values import BOOLEAN, NULL, AnyValue

MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
MAX_SCHEMAS: Final = 2000
MAX_PROPERTIES: Final = 128
_MAX_WORK_BYTES: Final = 4 * 1024 * 1024  # of schemas compared with those that were there before
_CACHED: Final = 128


@lru_cache(maxsize=_CACHED)
def schema_grammar(text: str, where: str = "schema") -> str:
    """The grammar of what matches the JSON Schema in `text`.

    where: what a refusal calls it. Raises InvalidRequest.
    """
    grammar = Grammar()
    root = schema_rule(grammar, text, where)
    return grammar.render(root)


def schema_rule(grammar: Grammar, text: str, where: str) -> str:
    """The name of a rule of `grammar` for what matches the JSON Schema in `text`."""
    with open_compiler(grammar, text, where) as (compiler, root):
        return compiler.rule(root, (where,))


@contextmanager
def open_compiler(
    grammar: Grammar, text: str, where: str
) -> Iterator[tuple["SchemaCompiler", object]]:
    """A compiler for the JSON Schema in `text`, and that schema.

    Raises InvalidRequest, also for the limits that the body meets.
    """
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_SCHEMA_BYTES:
        raise refused((where,), f"has {size} bytes; the most is {MAX_SCHEMA_BYTES}")
    try:
        root = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise refused((where,), "is not JSON") from error
    try:
        yield SchemaCompiler(grammar, root), root
    except GrammarTooLarge as error:
        raise refused((where,), str(error)) from error
    except RecursionError as error:
        raise refused((where,), "holds values nested too deep to be written") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def object_rule(grammar: Grammar) -> str:
    """The name of a rule of `grammar` for any JSON object."""
    return AnyValue(grammar).object()


@lru_cache(maxsize=1)
def object_grammar() -> str:
    """The grammar of any JSON object."""
    grammar = Grammar()
    return grammar.render(object_rule(grammar))


class SchemaCompiler:
    """Turns the parts of one schema into rules of `grammar`."""

    def __init__(self, grammar: Grammar, root: object) -> None:
        self._grammar = grammar
        self._root = root
        self._any = AnyValue(grammar)
        self._rules: dict[str, str] = {}
        # Those under construction with no bracket between them and here.
        self._open: set[str] = set()
        self._depth = 0
        self._schemas = 0
        self._work = 0

    def rule(self, schema: object, path: Path) -> str:
        """The name of the rule for what matches `schema`. Raises InvalidRequest."""
        found = self.optional_rule(schema, path)
        if found is None:
            raise refused(path, "matches nothing")
        return found

    def optional_rule(self, schema: object, path: Path) -> str | None:
        """As `rule`; None for a schema that is `false`."""
        with self._deeper(path):
            flat = self._flat(schema, path, frozenset())
            return None if flat is None else self._flat_rule(flat, path)

    def flat(self, schema: object, path: Path) -> Schema:
        """`schema` without `$ref`, `allOf` and annotations. Raises InvalidRequest."""
        found = self._flat(schema, path, frozenset())
        if found is None:
            raise refused(path, "matches nothing")
        return found

    @contextmanager
    def _deeper(self, path: Path) -> Iterator[None]:
        self._depth += 1
        self._schemas += 1
        if self._depth > MAX_DEPTH:
            raise refused(path, f"is nested deeper than {MAX_DEPTH}")
        if self._schemas > MAX_SCHEMAS:
            raise refused(path[:1], f"holds more than {MAX_SCHEMAS} schemas, references followed")
        yield
        self._depth -= 1

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Inside an object or array, where a schema may refer to what it is a part of."""
        outside, self._open = self._open, set()
        yield
        self._open = outside

    def _flat_rule(self, flat: Schema, path: Path) -> str:
        key = canonical(flat)
        self._work += len(key)
        if self._work > _MAX_WORK_BYTES:
            raise refused(path[:1], "refers to itself in more places than can be followed")
        if key in self._open:
            raise refused(path, "refers to itself with nothing in between")
        known = self._rules.get(key)
        if known is not None:
            return known
        name = self._rules[key] = self._grammar.reserve()
        self._open.add(key)
        self._grammar.define(name, any_of(self._bodies(flat, path)))
        self._open.discard(key)
        return name

    def _flat(self, schema: object, path: Path, followed: frozenset[str]) -> Schema | None:
        """`schema` without `$ref`, `allOf` and annotations; None if it is `false`."""
        if schema is False:
            return None
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            raise refused(path, "must be a schema: an object, true or false")
        with self._deeper(path):
            parts = list(self._parts(schema, path, followed))
        if any(part is None for part in parts):
            return None
        return merge((part for part in parts if part is not None), path)

    def _parts(
        self, schema: Schema, path: Path, followed: frozenset[str]
    ) -> Iterator[Schema | None]:
        if "$ref" in schema:
            reference = str(schema["$ref"])
            if reference in followed:
                raise refused((*path, "$ref"), "refers to itself with nothing in between")
            target = resolve(self._root, schema["$ref"], (*path, "$ref"))
            yield self._flat(target, path, followed | {reference})
        for index, part in enumerate(fields.items(schema, "allOf", path)):
            yield self._flat(part, (*path, "allOf", index), followed)
        yield {key: value for key, value in schema.items() if self._counts(key, path)}

    def _counts(self, key: str, path: Path) -> bool:
        """Whether a keyword asks for anything that `_parts` has not dealt with."""
        if key in ANNOTATIONS or key.startswith("x-") or key in ("$ref", "allOf"):
            return False
        if key == "$id" and len(path) == 1:
            return False
        if key not in UNDERSTOOD:
            raise refused((*path, key), "is not a keyword that can be enforced")
        return True

    def _bodies(self, flat: Schema, path: Path) -> list[str]:
        """The bodies of the alternatives, at least one."""
        bodies = self._with_null(flat, path)
        if not bodies:
            raise refused(path, "matches nothing")
        return bodies

    def _with_null(self, flat: Schema, path: Path) -> list[str]:
        flat = dict(flat)
        if flat.pop("nullable", False) is True:
            return [*self._with_null(flat, path), NULL]
        if "const" in flat or "enum" in flat:
            return listed_bodies(flat, path)
        for key in ALTERNATIVES:
            if key in flat:
                return self._alternatives(flat, key, path)
        if not flat:
            return [self._any.value()]
        return [self._typed(flat, name, path) for name in types_of(flat, path)]

    def _alternatives(self, flat: dict[str, object], key: str, path: Path) -> list[str]:
        parts = fields.items(flat, key, path)
        rest = {name: value for name, value in flat.items() if name != key}
        branches: list[tuple[Schema, Path]] = []
        for index, part in enumerate(parts):
            place = (*path, key, index)
            branch = self._flat(part, place, frozenset())
            if branch is not None:
                whole = self._flat({"allOf": [rest, branch]}, place, frozenset())
                branches.append((whole or {}, place))
        if key == "oneOf":
            _ensure_disjoint(branches)
        bodies = []
        for branch, place in branches:
            with self._deeper(place):
                bodies.append(self._flat_rule(branch, place))
        return list(dict.fromkeys(bodies))

    def _typed(self, flat: Schema, name: str, path: Path) -> str:
        match name:
            case "object":
                return self._object(flat, path)
            case "array":
                return self._array(flat, path)
            case "string":
                return text_of(self._grammar, flat, path)
            case "boolean":
                return BOOLEAN
            case "null":
                return NULL
            case _:
                return number_of(flat, name, path)

    def _array(self, flat: Schema, path: Path) -> str:
        if flat.get("uniqueItems", False) is not False:
            raise refused((*path, "uniqueItems"), "can not be enforced")
        least, most = fields.span(flat, "Items", path)
        if "prefixItems" in flat:
            return self._tuple(flat, least, most, path)
        with self._inside():
            item = self.optional_rule(flat.get("items", True), (*path, "items"))
        if item is None:
            most = 0
        if most == 0 and least > 0:
            raise refused((*path, "minItems"), f"is {least} where no items are allowed")
        return f'"[" {series(self._grammar, item or NULL, least, most)} "]"'

    def _tuple(self, flat: Schema, least: int, most: int | None, path: Path) -> str:
        """Items each with a schema of its own; there must be all of them and no more."""
        parts = fields.items(flat, "prefixItems", path)
        is_closed = flat.get("items") is False or most == len(parts)
        if not parts or least != len(parts) or not is_closed:
            raise refused(
                (*path, "prefixItems"),
                "can only be enforced with minItems and maxItems of the same number",
            )
        with self._inside():
            rules = [
                self.rule(part, (*path, "prefixItems", index)) for index, part in enumerate(parts)
            ]
        items = f" {comma(self._grammar)} ".join(rules)
        return f'"[" {series(self._grammar, items, 1, 1)} "]"'

    def _object(self, flat: Schema, path: Path) -> str:
        properties = fields.members(flat, "properties", path)
        required = fields.names(flat, "required", path)
        if len(properties) > MAX_PROPERTIES:
            raise refused(
                (*path, "properties"),
                f"has {len(properties)} members; the most is {MAX_PROPERTIES}",
            )
        with self._inside():
            members = self._members(properties, required, path)
            other = self._other(flat, properties, path)
        self._ensure_required(required, members, path)
        least, most = fields.span(flat, "Properties", path)
        if not properties:
            if other is None:
                _ensure_countable(least, 0, None, 0, path)
                return map_body(self._grammar, NULL, 0, 0)
            return map_body(self._grammar, other, least, most)
        most_there = None if other else len(members)
        _ensure_countable(least, len(required), most, most_there, path)
        return object_body(
            self._grammar,
            [Member(body, name in required) for name, body in members.items()],
            other,
        )

    def _members(self, properties: Schema, required: tuple[str, ...], path: Path) -> dict[str, str]:
        members = {}
        for name, schema in properties.items():
            rule = self.optional_rule(schema, (*path, "properties", name))
            if rule is not None:
                quoted = literal(json.dumps(name, ensure_ascii=False))
                members[name] = self._grammar.add(self._any.member(quoted, rule))
        return members

    def _other(self, flat: Schema, properties: Schema, path: Path) -> str | None:
        """The rule for members that are not declared; None if there are none."""
        schema = flat.get("additionalProperties", not properties)
        value = self.optional_rule(schema, (*path, "additionalProperties"))
        if value is None:
            return None
        name = (
            other_name_body(self._grammar, properties) if properties else text_body(self._grammar)
        )
        return self._grammar.add(self._any.member(self._grammar.add(name), value))

    def _ensure_required(
        self, required: tuple[str, ...], members: dict[str, str], path: Path
    ) -> None:
        for index, name in enumerate(required):
            if name not in members:
                raise refused(
                    (*path, "required", index), f"names {name[:64]!r}, which properties lacks"
                )


def _ensure_disjoint(branches: list[tuple[Schema, Path]]) -> None:
    for index, (one, _) in enumerate(branches):
        for other, place in branches[index + 1 :]:
            if not are_disjoint(one, other):
                raise refused(
                    place,
                    "may match together with another one, which oneOf forbids; use anyOf, or a "
                    "required member with a const that differs",
                )


def _ensure_countable(
    least: int, least_there: int, most: int | None, most_there: int | None, path: Path
) -> None:
    """Members that are declared are not counted, so a count must hold of itself."""
    if least > least_there:
        raise refused((*path, "minProperties"), "can not be enforced here")
    if most is not None and (most_there is None or most < most_there):
        raise refused((*path, "maxProperties"), "can not be enforced here")
