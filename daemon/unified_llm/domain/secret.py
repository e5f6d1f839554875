"""A value that is used and never shown."""

from typing import Final, NoReturn

STARS: Final = "********"


class Secret:
    """Holds a key or password; every way of showing it shows stars."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not value:
            raise ValueError("a secret is not empty")
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the last line that needs it."""
        return self._value

    def redacted(self, text: str) -> str:
        """`text` with stars wherever the value stands in it."""
        return text.replace(self._value, STARS)

    def __repr__(self) -> str:
        return STARS

    def __format__(self, spec: str) -> str:
        return STARS

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret does not leave its process")
