"""The ledger: who used what on which day.

Functions for the store's thread: `await store.write(lambda database: record_usage(…))`.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from unified_llm.domain.models import ModelId
from unified_llm.domain.usage import UsageLine

_KEYS: Final = ("day", "principal", "provider", "model")
_SUMS: Final = (
    "answers", "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens",
    "reasoning_tokens", "cost", "unpriced", "estimated",
)  # fmt: skip
_COLUMNS: Final = ", ".join((*_KEYS, *_SUMS))
_ADD: Final = (
    f"INSERT INTO usage ({_COLUMNS}) VALUES ({', '.join('?' * len((*_KEYS, *_SUMS)))}) "  # noqa: S608  names of ours
    f"ON CONFLICT ({', '.join(_KEYS)}) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)
)


def record_usage(database: sqlite3.Connection, lines: Iterable[UsageLine]) -> None:
    """Add `lines` to what the ledger has."""
    rows = (tuple(getattr(line, name) for name in (*_KEYS, *_SUMS)) for line in lines)
    database.executemany(_ADD, rows)


def usage_since(
    database: sqlite3.Connection, day: str, principal: str | None = None
) -> tuple[UsageLine, ...]:
    """Every line of `day` and later, the latest day first; principal: only of this one."""
    rows = database.execute(
        f"SELECT {_COLUMNS} FROM usage WHERE day >= ? AND (? IS NULL OR principal = ?) "  # noqa: S608  names of ours
        "ORDER BY day DESC, principal, provider, model",
        (day, principal, principal),
    )
    return tuple(_line(*row) for row in rows)


def _line(day: str, principal: str, provider: str, model: str, *sums: int) -> UsageLine:
    counts: dict[str, Any] = dict(zip(_SUMS, sums, strict=True))
    return UsageLine(day, principal, provider, ModelId(model), **counts)
