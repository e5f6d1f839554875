"""JSON of a provider into declared structs; a provider is believed as little as a client."""

from typing import Final, TypeVar

import msgspec

from unified_llm.domain.chat import Usage
from unified_llm.domain.errors import InvalidRequest, ProviderFailed

T = TypeVar("T")

_MAX_SHOWN: Final = 200


def decode(raw: bytes, shape: type[T]) -> T:
    """`raw` as a `shape`; fields that the shape does not name are read past.

    Raises ProviderFailed, naming the path of what is wrong.
    """
    try:
        return msgspec.json.decode(raw, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # What is shown names paths and types, and nothing of the content.
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ProviderFailed(f"What the provider sent is no answer: {why[:_MAX_SHOWN]}.") from error


def believed(told: Usage) -> Usage | None:
    """`told`, unless it contradicts itself: then it is unknown, and pays nothing back.

    Some servers count what was thought beside the completion, and not as a part of it.
    """
    return told if told.is_possible else None


def embed(text: str, parameter: str) -> msgspec.Raw:
    """JSON that came as text, to stand in a body as it is. Raises InvalidRequest.

    It is checked first: what is not one whole value would change the body around it.
    """
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidRequest(f"{parameter} is not JSON.", parameter=parameter) from error
    return msgspec.Raw(text.encode())
