"""The one error a caller is told when several targets have failed."""

from collections.abc import Sequence
from dataclasses import dataclass

from unified_llm.domain.errors import UnavailableError, UnifiedLlmError
from unified_llm.domain.models import ModelId


@dataclass(frozen=True, slots=True)
class Failure:
    """A target that was asked, or skipped, and what came of it."""

    model: ModelId
    error: UnifiedLlmError


def one_error(name: ModelId, failures: Sequence[Failure]) -> UnifiedLlmError:
    """The error of `failures`, at least one, that leaves most hope; it tells of the others.

    What will pass by itself, and soonest, comes first; then what an operator can mend.
    """
    if len(failures) == 1:
        return failures[0].error
    chosen = min(failures, key=_despair)
    others = ", ".join(f"{each.model} ({each.error.code})" for each in failures)
    tried = f"Tried for {name}: {others}."
    chosen.error.hint = f"{chosen.error.hint} {tried}".strip()
    return chosen.error


def _despair(failure: Failure) -> tuple[bool, float, bool]:
    wait = failure.error.retry_after
    return wait is None, wait or 0.0, not isinstance(failure.error, UnavailableError)
