"""Numbers within bounds, as GBNF.

A bounded number is written without an exponent. Without a bound, a number has up to 16 digits on
each side of the point: a model that has begun to write 0.333 would not stop by itself.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from unified_llm.grammar.gbnf import any_of, literal

INTEGER: Final = '"-"? ("0" | [1-9] [0-9]{0,15})'
NUMBER: Final = f'{INTEGER} ("." [0-9]{{1,16}})? ([eE] [-+]? [0-9]{{1,2}})?'

MAX_DIGITS: Final = 20
"""Of a bound, on each side of the point."""

_FREE_DIGITS: Final = 16
_ANY_TAIL: Final = f"[0-9]{{0,{_FREE_DIGITS}}}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a number lies; None is without end, and the flags leave the bound itself out."""

    low: Decimal | None = None
    high: Decimal | None = None
    is_above_low: bool = False
    is_below_high: bool = False

    @property
    def is_free(self) -> bool:
        """Whether there are no bounds."""
        return self.low is None and self.high is None


def integer_body(bounds: Bounds) -> str | None:
    """Whole numbers within `bounds`; None if there are none."""
    if bounds.is_free:
        return INTEGER
    low, high = _whole(bounds)
    if low is not None and high is not None and low > high:
        return None
    bodies = []
    if low is None or low < 0:
        least = 1 if high is None or high >= 0 else -high
        bodies.append(f'"-" ({_naturals(least, None if low is None else -low)})')
    if high is None or high >= 0:
        bodies.append(_naturals(max(0, low or 0), high))
    return any_of(bodies)


def number_body(bounds: Bounds) -> str | None:
    """Numbers within `bounds`; None if there are none."""
    if bounds.is_free:
        return NUMBER
    bodies = []
    if bounds.low is None or bounds.low < 0:
        negative = _decimals(_mirrored(bounds))
        bodies += [f'"-" ({negative})'] if negative else []
    if bounds.high is None or bounds.high >= 0:
        from_zero = bounds.low is None or bounds.low < 0
        positive = Bounds(Decimal(0), bounds.high, False, bounds.is_below_high)
        body = _decimals(positive if from_zero else bounds)
        bodies += [body] if body else []
    return any_of(bodies) if bodies else None


def _whole(bounds: Bounds) -> tuple[int | None, int | None]:
    low = high = None
    if bounds.low is not None:
        low = int(bounds.low.to_integral_value(ROUND_CEILING))
        low += bounds.is_above_low and low == bounds.low
    if bounds.high is not None:
        high = int(bounds.high.to_integral_value(ROUND_FLOOR))
        high -= bounds.is_below_high and high == bounds.high
    return low, high


def _mirrored(bounds: Bounds) -> Bounds:
    """What follows the minus sign: more than zero, or from -high on; up to -low."""
    high = None if bounds.low is None else -bounds.low
    if bounds.high is None or bounds.high >= 0:
        return Bounds(Decimal(0), high, True, bounds.is_above_low)
    return Bounds(-bounds.high, high, bounds.is_below_high, bounds.is_above_low)


def _naturals(low: int, high: int | None) -> str:
    """0 <= low <= high."""
    digits = len(str(low))
    if high is None:
        longer = f"[1-9] [0-9]{{{digits},{max(digits, _FREE_DIGITS - 1)}}}"
        return any_of([*_same_length(str(low), "9" * digits), longer])
    bodies: list[str] = []
    for length in range(digits, len(str(high)) + 1):
        shortest = 10 ** (length - 1) if length > 1 else 0
        first, last = max(low, shortest), min(high, 10**length - 1)
        bodies += _same_length(str(first), str(last))
    return any_of(bodies)


def _same_length(low: str, high: str) -> list[str]:
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=True)) if a != b), len(low))
    if shared == len(low):
        return [literal(low)]
    head = literal(low[:shared]) + " " if shared else ""
    return [head + body for body in _spread(low[shared:], high[shared:])]


def _spread(low: str, high: str) -> list[str]:
    """Of the same length, and the first digits differ."""
    count = len(low) - 1
    first, last = int(low[0]), int(high[0])
    bodies = []
    if set(low[1:]) - {"0"}:
        bodies += [f'"{first}" {body}' for body in _same_length(low[1:], "9" * count)]
        first += 1
    if set(high[1:]) - {"9"}:
        bodies += [f'"{last}" {body}' for body in _same_length("0" * count, high[1:])]
        last -= 1
    if first <= last:
        bodies.append(f"[{first}-{last}]" + (f" [0-9]{{{count}}}" if count else ""))
    return bodies


def _decimals(bounds: Bounds) -> str | None:
    """Numbers from a low bound, which is not negative, on."""
    low, high = bounds.low or Decimal(0), bounds.high
    low_whole, low_tail = _split(low)
    at_least = _tails_above(low_tail, bounds.is_above_low)
    if high is None:
        return any_of([_join(low_whole, at_least), _wholes(low_whole + 1, None)])
    high_whole, high_tail = _split(high)
    if low_whole > high_whole:
        return None
    if low_whole == high_whole:
        between = _tails_between(low_tail, high_tail, bounds)
        return _join(low_whole, between) if between else None
    bodies = [_join(low_whole, at_least)]
    if low_whole + 1 < high_whole:
        bodies.append(_wholes(low_whole + 1, high_whole - 1))
    at_most = _tails_below(high_tail, bounds.is_below_high)
    return any_of([*bodies, _join(high_whole, at_most)] if at_most else bodies)


def _split(value: Decimal) -> tuple[int, str]:
    whole, _, tail = f"{value:f}".partition(".")
    return int(whole), tail.rstrip("0")


def _wholes(low: int, high: int | None) -> str:
    return f'({_naturals(low, high)}) ("." [0-9]{{1,{_FREE_DIGITS}}})?'


# A set of tails: the bodies of those with a digit, and whether no digit at all is one of them.
_Tails = tuple[list[str], bool]


def _join(whole: int, tails: _Tails) -> str:
    bodies, may_be_empty = tails
    number = literal(str(whole))
    if not bodies:
        return number
    return f'{number} ("." ({any_of(bodies)})){"?" if may_be_empty else ""}'


def _after(digit: int, tails: _Tails) -> list[str]:
    bodies, may_be_empty = tails
    if not bodies:
        return [f'"{digit}"'] if may_be_empty else []
    return [f'"{digit}" ({any_of(bodies)}){"?" if may_be_empty else ""}']


def _digits(first: int, last: int) -> list[str]:
    return [f"[{first}-{last}] {_ANY_TAIL}"] if first <= last else []


def _tails_above(bound: str, is_above: bool) -> _Tails:
    if bound:
        digit = int(bound[0])
        rest = _after(digit, _tails_above(bound[1:], is_above))
        return [*_digits(digit + 1, 9), *rest], False
    if is_above:
        return [f'"0"{{0,{_FREE_DIGITS}}} [1-9] {_ANY_TAIL}'], False
    return [f"[0-9]{{1,{_FREE_DIGITS}}}"], True


def _tails_below(bound: str, is_below: bool) -> _Tails | None:
    if bound:
        digit = int(bound[0])
        rest = _tails_below(bound[1:], is_below)
        return [*_digits(0, digit - 1), *(_after(digit, rest) if rest else [])], True
    return None if is_below else ([f'"0"{{1,{_FREE_DIGITS}}}'], True)


def _tails_between(low: str, high: str, bounds: Bounds) -> _Tails | None:
    if not low and not bounds.is_above_low:
        return _tails_below(high, bounds.is_below_high)
    if not high:
        return None
    first, last = int(low[:1] or "0"), int(high[0])
    if first > last:
        return None
    if first == last:
        rest = _tails_between(low[1:], high[1:], bounds)
        return (_after(first, rest), False) if rest else None
    above = _after(first, _tails_above(low[1:], bounds.is_above_low))
    below = _tails_below(high[1:], bounds.is_below_high)
    middle = _digits(first + 1, last - 1)
    return [*above, *middle, *(_after(last, below) if below else [])], False
