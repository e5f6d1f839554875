"""Between which values a schema lets a number lie."""

from decimal import Decimal

from unified_llm.grammar import fields
from unified_llm.grammar.keywords import INTEGER_FORMATS, NUMBER_FORMATS
from unified_llm.grammar.numbers import Bounds
from unified_llm.grammar.references import Schema
from unified_llm.grammar.refusal import Path, refused


def parse_bounds(schema: Schema, path: Path) -> Bounds:
    """What the keywords of numbers say. Raises InvalidRequest."""
    low, is_above = fields.bound(schema, "minimum", path), False
    over = fields.bound(schema, "exclusiveMinimum", path)
    if over is not None and (low is None or over >= low):
        low, is_above = over, True
    high, is_below = fields.bound(schema, "maximum", path), False
    under = fields.bound(schema, "exclusiveMaximum", path)
    if under is not None and (high is None or under <= high):
        high, is_below = under, True
    limit = _limit(schema, path)
    if limit is not None and (low is None or low < -limit):
        low, is_above = -limit, False
    if limit is not None and (high is None or high >= limit):
        high, is_below = limit - 1, False
    return Bounds(low, high, is_above, is_below)


def _limit(schema: Schema, path: Path) -> Decimal | None:
    """Of the integer type that OpenAPI's formats name."""
    name = schema.get("format")
    may_be_text = "string" in str(schema.get("type", "string"))
    if isinstance(name, str) and name in INTEGER_FORMATS:
        return Decimal(INTEGER_FORMATS[name])
    if name is None or may_be_text or (isinstance(name, str) and name in NUMBER_FORMATS):
        return None
    raise refused((*path, "format"), "is not a format of numbers that can be enforced")
