"""What people wrote, hidden from a chat template and found again in what it renders.

Each text is replaced by a word that nobody can guess, between two control characters. Where the
template writes JSON these come out escaped, and then the text is escaped as well.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.errors import InvalidRequest
from unified_llm.grammar.keywords import ANNOTATIONS, UNDERSTOOD

_SPACE: Final = "\u2003"  # str.strip removes it, and no template writes it
_MARK: Final = "\x01"  # str.strip leaves it, and JSON escapes it
_MARK_IN_JSON: Final = "\\u0001"
_MAX_DEPTH: Final = 64
_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null", "function")
# What templates look into when they write a schema in words of their own.
_VISIBLE: Final = ANNOTATIONS | UNDERSTOOD | {*_TYPES, "function", "name", "parameters"}


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the prompt. is_markup: the template wrote it, not a person.

    image: which of the conversation's images it is, in their order; None for text.
    """

    text: str
    is_markup: bool
    image: int | None = None


@dataclass(frozen=True, slots=True)
class _Hidden:
    text: str
    is_content: bool
    image: int | None = None


class Placeholders:
    """The words of one rendering. base: a random word of letters and digits."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._hidden: list[_Hidden] = []
        self._values: dict[str, str] = {}
        self._images = 0

    def image(self) -> str:
        """What stands for the next image of the conversation."""
        self._images += 1
        return self._word(_Hidden("", is_content=True, image=self._images - 1))

    def content(self, text: str) -> str:
        """What stands for a message's text, which the template may trim."""
        if not text:
            return ""
        return f"{_SPACE}{self._word(_Hidden(text, is_content=True))}{_SPACE}"

    def value(self, text: str) -> str:
        """What stands for a text inside of a tool or a call; the same for the same text."""
        if not text:
            return ""
        if text not in self._values:
            self._values[text] = self._word(_Hidden(text, is_content=False))
        return self._values[text]

    def inside(self, value: object, depth: int = 0) -> object:
        """A JSON value with all texts hidden but the words of JSON Schema. Raises InvalidRequest.

        Those are harmless, and templates look for them.
        """
        if depth > _MAX_DEPTH:
            raise InvalidRequest(f"A tool or a call is nested deeper than {_MAX_DEPTH}.")
        if isinstance(value, str):
            return value if value in _VISIBLE else self.value(value)
        if isinstance(value, list):
            return [self.inside(item, depth + 1) for item in value]
        if isinstance(value, Mapping):
            return {
                self.inside(str(key), depth): self.inside(item, depth + 1)
                for key, item in value.items()
            }
        return value

    def split(self, rendered: str) -> tuple[Part, ...]:
        """Markup and text of what the template wrote. Raises InvalidRequest if text got lost.

        Of what a tool says a template may leave out a part, of a conversation it may not.
        """
        parts: list[Part] = []
        found: set[int] = set()
        end = 0
        for match in self._pattern().finditer(rendered):
            index = int(match["index"])
            found.add(index)
            markup = rendered[end : match.start()]
            image = self._hidden[index].image
            parts += (Part(markup, is_markup=True), Part(self._text(match), False, image))
            end = match.end()
        parts.append(Part(rendered[end:], is_markup=True))
        self._ensure_whole(parts, found)
        return tuple(part for part in parts if part.text or part.image is not None)

    def is_shown(self, text: str, rendered: str) -> bool:
        """Whether the template wrote what stands for the `value` of `text`."""
        return self._values[text].strip(_MARK) in rendered

    def _word(self, hidden: _Hidden) -> str:
        self._hidden.append(hidden)
        # Ordered, so that a template that sorts gives the same prompt each time.
        return f"{_MARK}{self._base}{len(self._hidden) - 1:06d}{_MARK}"

    def _pattern(self) -> re.Pattern[str]:
        mark = f"(?:{_MARK}|{re.escape(_MARK_IN_JSON)})"
        return re.compile(
            f"(?P<before>{_SPACE}?)(?P<mark>{mark}){self._base}(?P<index>[0-9]{{6}})"
            f"{mark}(?P<after>{_SPACE}?)"
        )

    def _text(self, match: re.Match[str]) -> str:
        hidden = self._hidden[int(match["index"])]
        text = hidden.text
        if hidden.is_content:
            text = text if match["before"] else text.lstrip()
            text = text if match["after"] else text.rstrip()
        if match["mark"] == _MARK_IN_JSON:
            return json.dumps(text, ensure_ascii=False)[1:-1]
        return text

    def _ensure_whole(self, parts: list[Part], found: set[int]) -> None:
        contents = [index for index, each in enumerate(self._hidden) if each.is_content]
        lost = len(contents) - len(found.intersection(contents))
        lost += any(self._base in part.text for part in parts if part.is_markup)
        if lost:
            raise InvalidRequest(
                f"The model's chat template leaves out or rewrites the text of {lost} of "
                f"{len(contents)} messages.",
                hint="Many templates take no system message, or only one at the beginning.",
                parameter="messages",
            )
