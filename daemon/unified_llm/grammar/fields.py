"""The values of a schema's keywords, with their types checked; a wrong one is named by its path."""

from decimal import Decimal

from unified_llm.grammar.numbers import MAX_DIGITS
from unified_llm.grammar.references import Schema
from unified_llm.grammar.refusal import Path, refused


def count(schema: Schema, key: str, path: Path) -> int | None:
    """A number of things; None if it is not given."""
    value = schema.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refused((*path, key), "must be a whole number from 0 on")
    return value


def span(schema: Schema, what: str, path: Path) -> tuple[int, int | None]:
    """`min` and `max` of Items, Length or Properties."""
    least, most = count(schema, f"min{what}", path) or 0, count(schema, f"max{what}", path)
    if most is not None and least > most:
        raise refused((*path, f"min{what}"), f"is {least} and max{what} is {most}")
    return least, most


def bound(schema: Schema, key: str, path: Path) -> Decimal | None:
    """A number, exactly as JSON wrote it; None if it is not given."""
    value = schema.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused((*path, key), "must be a number")
    exact = Decimal(str(value))
    if any(len(digits) > MAX_DIGITS for digits in f"{abs(exact):f}".split(".")):
        raise refused((*path, key), f"has more than {MAX_DIGITS} digits on a side of the point")
    return exact


def names(schema: Schema, key: str, path: Path) -> tuple[str, ...]:
    """A list of texts; empty if it is not given."""
    found: list[str] = []
    for index, value in enumerate(items(schema, key, path)):
        if not isinstance(value, str):
            raise refused((*path, key, index), "must be a text")
        found.append(value)
    return tuple(found)


def items(schema: Schema, key: str, path: Path) -> list[object]:
    """A list; empty if it is not given."""
    value = schema.get(key, [])
    if not isinstance(value, list):
        raise refused((*path, key), "must be an array")
    return value


def members(schema: Schema, key: str, path: Path) -> Schema:
    """An object; empty if it is not given."""
    value = schema.get(key, {})
    if not isinstance(value, dict):
        raise refused((*path, key), "must be an object")
    return value
