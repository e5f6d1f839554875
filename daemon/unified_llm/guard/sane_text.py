"""Text that any part of the system can take."""

from unified_llm.domain.errors import InvalidRequest


def ensure_sane_text(text: str, parameter: str) -> None:
    """Raise InvalidRequest for NUL characters and halves of characters."""
    if "\0" in text:
        raise InvalidRequest("The text holds a NUL character.", parameter=parameter)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"The text holds half a character (a lone surrogate) at position {error.start}.",
            hint="Send valid Unicode.",
            parameter=parameter,
        ) from error
