"""How what cannot be enforced is refused: by the place where it stands."""

from typing import Final, TypeAlias

from unified_llm.domain.errors import InvalidRequest

Path: TypeAlias = tuple[str | int, ...]

_MAX_SHOWN: Final = 200


def refused(path: Path, reason: str) -> InvalidRequest:
    """The refusal of what stands at `path`. reason: what it does, and the limit."""
    place = render(path)
    return InvalidRequest(
        f"{place} {reason}.",
        hint="A schema that cannot be enforced is refused rather than ignored; the reference lists "
        "what can.",
        parameter=place,
    )


def render(path: Path) -> str:
    """`("schema", "properties", "a", 0)` as `schema.properties.a[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
