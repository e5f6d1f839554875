"""Bodies against the types of the official clients, which allow nothing beside what they name."""

from typing import Any

from jsonschema import Draft202012Validator
from pydantic import TypeAdapter


class Official:
    """A type of an official client. Building one takes a while, and it is large."""

    def __init__(self, shape: Any) -> None:
        # As a JSON Schema: pydantic itself looks into an `Iterable[…]` only when it is read.
        schema = TypeAdapter[Any](shape).json_schema()
        _close(schema)
        self._validator = Draft202012Validator(schema)

    def faults(self, value: object) -> list[str]:
        """What is wrong with `value`; a field that the type does not name is wrong too."""
        return [error.message for error in self._validator.iter_errors(value)]


def _close(part: object) -> None:
    """Allow no field beside those that are named; clients read past them."""
    if isinstance(part, list):
        for each in part:
            _close(each)
    elif isinstance(part, dict):
        if isinstance(part.get("properties"), dict):
            part.setdefault("additionalProperties", False)
        for each in part.values():
            _close(each)
