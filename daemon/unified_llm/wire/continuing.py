"""A change of who speaks, as every door tells of it."""

from unified_llm.domain.chat import Continued


def told_change(change: Continued) -> dict[str, object]:
    """Who speaks from here on, and after how many characters of text."""
    return {"model": change.model, "backend": change.backend, "offset": change.offset}
