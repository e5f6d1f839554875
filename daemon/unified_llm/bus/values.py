"""Python values as D-Bus bodies, both ways.

Outwards, a body that the bus would reject costs the whole connection, so texts are made legal and
paths are checked here. Structs may be tuples; a value of type `h` is the descriptor itself.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from dbus_next.signature import SignatureTree, SignatureType, Variant

from unified_llm.bus.names import is_object_path

__all__ = ["Variant", "from_body", "parse_signature", "to_body", "unwrap"]


@lru_cache(maxsize=512)
def parse_signature(signature: str) -> SignatureTree:
    """The tree of a signature.

    The library keeps every signature it ever saw; peers choose signatures, so ours is bounded.
    """
    return SignatureTree(signature)


def to_body(signature: str, values: Sequence[object]) -> tuple[list[object], list[int]]:
    """A body for the library, and the descriptors it refers to.

    Raises TypeError or ValueError when the values do not fit the signature: a bug of ours.
    """
    types = parse_signature(signature).types
    if len(types) != len(values):
        raise TypeError(f"{len(values)} values for the {len(types)} of signature {signature!r}")
    fds: list[int] = []
    body = [_outward(kind, value, fds) for kind, value in zip(types, values, strict=True)]
    return body, fds


def from_body(signature: str, body: Sequence[object], fds: Sequence[int]) -> tuple[object, ...]:
    """The values of a received body, with descriptors in place of their numbers in the message.

    Raises ValueError unless each descriptor is referred to once. Numbers inside of variants stay
    numbers.
    """
    if "h" not in signature:
        return tuple(body)
    types = parse_signature(signature).types
    left = dict(enumerate(fds))
    values = tuple(_inward(kind, value, left) for kind, value in zip(types, body, strict=True))
    if left:
        raise ValueError(f"{len(left)} descriptors that no argument refers to")
    return values


def unwrap(value: object) -> object:
    """The plain value in nested variants, dictionaries and lists."""
    if isinstance(value, Variant):
        return unwrap(value.value)
    if isinstance(value, dict):
        return {key: unwrap(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [unwrap(inner) for inner in value]
    return value


def _outward(kind: SignatureType, value: Any, fds: list[int]) -> object:
    match kind.token:
        case "s":
            return _legal_text(value)
        case "o" if not is_object_path(value):
            raise ValueError(f"{value!r} is not an object path")
        case "h":
            fds.append(value)
            return len(fds) - 1
        case "v":
            return Variant(value.signature, _outward(value.type, value.value, fds))
        case "(":
            return _outward_struct(kind, value, fds)
        case "a":
            return _outward_array(kind.children[0], value, fds)
        case _:
            return cast("object", value)


def _outward_struct(kind: SignatureType, value: Sequence[object], fds: list[int]) -> list[object]:
    return [_outward(child, inner, fds) for child, inner in zip(kind.children, value, strict=True)]


def _outward_array(child: SignatureType, value: Any, fds: list[int]) -> object:
    match child.token:
        case "{":
            key_type, value_type = child.children
            return {
                _outward(key_type, key, fds): _outward(value_type, inner, fds)
                for key, inner in cast("Mapping[object, object]", value).items()
            }
        case "y":
            return bytes(value)
        case _:
            return [_outward(child, inner, fds) for inner in value]


def _legal_text(text: str) -> str:
    # A D-Bus string holds neither NUL nor half a surrogate pair; a model may well produce either.
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _inward(kind: SignatureType, value: Any, left: dict[int, int]) -> object:
    match kind.token:
        case "h" if value not in left:
            raise ValueError(f"descriptor {value} is not there, or not any more")
        case "h":
            return left.pop(value)
        case "(":
            return [
                _inward(child, inner, left)
                for child, inner in zip(kind.children, value, strict=True)
            ]
        case "a" if kind.signature.startswith("a{"):
            key_type, value_type = kind.children[0].children
            return {
                _inward(key_type, key, left): _inward(value_type, inner, left)
                for key, inner in value.items()
            }
        case "a" if "h" in kind.signature:
            return [_inward(kind.children[0], inner, left) for inner in value]
        case _:
            return cast("object", value)
