"""What a caller may hold, and what it may say of it."""

from typing import Final

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import InvalidRequest, RateLimited

MAX_TEXT: Final = 200
ROOT_FACTOR: Final = 4


def ensure_within_quota(caller: Caller, have: int, limit: int, what: str) -> None:
    """Raise RateLimited if a caller whose user has `have` of `what` may not have one more."""
    most = limit * ROOT_FACTOR if caller.uid == 0 else limit
    if have >= most:
        raise RateLimited(
            f"uid {caller.uid} has {have} {what}; {most} is the most.", hint="Let go of one."
        )


def ensure_plain(**texts: str) -> None:
    """Raise InvalidRequest unless each text is short and printable: it is shown to others."""
    for name, text in texts.items():
        if not 1 <= len(text) <= MAX_TEXT or not text.isprintable():
            raise InvalidRequest(
                f"{name} must be 1 to {MAX_TEXT} printable characters.", parameter=name
            )
