"""Quantities with their unit in the type, so that no bare number travels between rooms."""

from typing import NewType

Bytes = NewType("Bytes", int)
"""A size in bytes."""

Seconds = NewType("Seconds", float)
"""A duration in seconds."""

Instant = NewType("Instant", float)
"""A moment in seconds on the monotonic clock; its zero means nothing."""

Tokens = NewType("Tokens", int)
"""A number of model tokens."""


def later(moment: Instant, delay: Seconds) -> Instant:
    """The instant `delay` seconds after `moment`."""
    return Instant(moment + delay)


def render_bytes(size: int) -> str:
    """Text for people, in binary units with one decimal: 98.0 MiB."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
