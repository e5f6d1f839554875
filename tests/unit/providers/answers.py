"""Reading a whole answer in a test."""

from collections.abc import Iterable

from unified_llm.domain.chat import ChatEvent
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.providers.api import AnswerReader


def read_all(reader: AnswerReader, pieces: Iterable[bytes]) -> list[ChatEvent | type]:
    """The events of `pieces`; the class of the error that ends them, if one does."""
    events: list[ChatEvent | type] = []
    try:
        for piece in pieces:
            events.extend(reader.feed(piece))
    except UnifiedLlmError as error:
        events.append(type(error))
    return events


def sse(*data: str, event: str | None = None) -> bytes:
    """Each text as the data of one event."""
    name = f"event: {event}\n" if event else ""
    return "".join(f"{name}data: {text}\n\n" for text in data).encode()
