"""Where a JSON Schema refers to a part of itself (RFC 6901). Nothing is ever fetched."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from unified_llm.grammar.refusal import Path, refused

Schema: TypeAlias = Mapping[str, object]

_MAX_SHOWN: Final = 80


def resolve(root: object, reference: object, path: Path) -> object:
    """What `reference` points at. Raises InvalidRequest."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise refused(
            path,
            f"refers to {str(reference)[:_MAX_SHOWN]!r}; only references inside the schema are "
            "followed, such as `#/$defs/name`",
        )
    found = root
    for step in reference[1:].split("/")[1:]:
        found = _member(found, step.replace("~1", "/").replace("~0", "~"))
        if found is None:
            raise refused(path, f"refers to {reference[:_MAX_SHOWN]!r}, which is not there")
    return found


def _member(value: object, step: str) -> object | None:
    if isinstance(value, Mapping):
        return value.get(step)
    is_index = step.isascii() and step.isdigit() and len(step) < 6
    if isinstance(value, list) and is_index and int(step) < len(value):
        member: object = value[int(step)]
        return member
    return None
