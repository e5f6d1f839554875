"""JSON Schemas and values, drawn by hypothesis or by a seed."""

import json
import random
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
_NAMES = ("a", "ab", "b", "name", "zip code", "é")


def values() -> st.SearchStrategy[Any]:
    """Any JSON value, not very large."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(10**9), 10**9)
        | st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
        | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=6)
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3)
        ),
        max_leaves=6,
    )


class SchemaDraw:
    """Schemas within what can be enforced. draw: where chance comes from."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def schema(self, depth: int = 3) -> Schema | bool:
        """A schema with at most `depth` levels below it."""
        kinds: list[Callable[[int], Schema | bool]] = [
            self._integer,
            self._number,
            self._text,
            self._plain,
            self._values,
        ]
        if depth > 0:
            kinds += [self._object, self._array, self._choice, self._both] * 2
        return self._draw.choice(kinds)(depth - 1)

    def _integer(self, _: int) -> Schema:
        return {"type": "integer", **self._bounds(-120, 120, 1)}

    def _number(self, _: int) -> Schema:
        return {"type": "number", **self._bounds(-120, 120, 8)}

    def _bounds(self, low: int, high: int, parts: int) -> Schema:
        first, last = sorted(self._draw.randint(low * parts, high * parts) for _ in range(2))
        found: Schema = {}
        if self._draw.random() < 0.5:
            found[self._draw.choice(["minimum", "exclusiveMinimum"])] = first / parts
        if self._draw.random() < 0.5:
            found[self._draw.choice(["maximum", "exclusiveMaximum"])] = (last + 2 * parts) / parts
        return found

    def _text(self, _: int) -> Schema:
        kind = self._draw.randrange(4)
        if kind == 0:
            return {"type": "string", "pattern": self._draw.choice(PATTERNS)}
        if kind == 1:
            return {"type": "string", "format": self._draw.choice(["date", "uuid", "ipv4"])}
        least = self._draw.randrange(4)
        return {"type": "string", "minLength": least, "maxLength": least + self._draw.randrange(4)}

    def _plain(self, _: int) -> Schema | bool:
        types = self._draw.choice(["boolean", "null", ["string", "null"], ["integer", "boolean"]])
        plain: list[Schema | bool] = [True, {}, {"type": types}]
        return self._draw.choice(plain)

    def _values(self, _: int) -> Schema:
        pool = [None, True, 0, -7, 1.5, "", "a b", 'q"\\', [1], {"a": [2]}]
        return {"enum": self._draw.sample(pool, self._draw.randint(1, 4))}

    def _object(self, depth: int) -> Schema:
        names = self._draw.sample(_NAMES, self._draw.randint(0, 4))
        schema: Schema = {
            "type": "object",
            "properties": {name: self.schema(depth) for name in names},
            "required": [name for name in names if self._draw.random() < 0.5],
        }
        if self._draw.random() < 0.5:
            schema["additionalProperties"] = self._draw.choice([False, True, {"type": "integer"}])
        return schema

    def _array(self, depth: int) -> Schema:
        least = self._draw.randrange(3)
        schema: Schema = {"type": "array", "items": self.schema(depth), "minItems": least}
        if self._draw.random() < 0.5:
            schema["maxItems"] = least + self._draw.randrange(3)
        return schema

    def _choice(self, depth: int) -> Schema:
        return {"anyOf": [self.schema(depth) for _ in range(self._draw.randint(1, 3))]}

    def _both(self, depth: int) -> Schema:
        one, other = self._object(depth), self._object(depth)
        for each in (one, other):
            each.pop("additionalProperties", None)
        names = set(one["properties"]) & set(other["properties"])
        for name in names:
            del other["properties"][name]
        other["required"] = [name for name in other["required"] if name not in names]
        return {"allOf": [one, other]}


PATTERNS = (
    "^[a-z]{1,3}$", r"^\d+-\d{2}$", "^(ab|c)*$", "a.c", r"^[^a-z\"]$", r"^\w+@\w+\.(org|com)$",
    "^x", "y$", r"^[\"\\]{2}$", r"^a?b+?$",
)  # fmt: skip


def schemas() -> st.SearchStrategy[Schema | bool]:
    """Schemas as SchemaDraw makes them."""
    return st.randoms(use_true_random=False).map(lambda draw: SchemaDraw(draw).schema())


def written(value: object) -> str:
    """A value as a model would write it."""
    return json.dumps(value, ensure_ascii=False)
