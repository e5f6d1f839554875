"""Arguments that a model writes one by one, told as JSON while they come.

Everything in here has been kept to the grammar of `grammar.parameters`; what fits none of it all
the same ends the call, and nothing of it is guessed at.
"""

import json
from collections.abc import Mapping
from typing import Final

from unified_llm.grammar.parameters import MAX_KEY_CHARACTERS, ParameterForm
from unified_llm.worker.text import begun

_FIRST: Final = "{"
_MORE: Final = ", "


class ParameterReader:
    """Reads what follows the name of a tool.

    bare: the keys there are, and whether the value of each is text as it stands; others are JSON.
    is_whole: the call has come to its end. is_broken: it can not come to one any more.
    """

    def __init__(self, form: ParameterForm, bare: Mapping[str, bool]) -> None:
        self._form = form
        self._bare = bare
        self._told = _FIRST
        self._held = ""
        self._take = self._take_marker
        self._markers = {form.first: False, form.none: True}
        self._is_bare = False
        self._is_quoted = False
        self._is_escaped = False
        self.is_whole = False
        self.is_broken = False

    def take(self, character: str) -> str:
        """The part of the arguments, as JSON, that is known for sure with one more character."""
        return "" if self.is_whole or self.is_broken else self._take(character)

    def _take_marker(self, character: str) -> str:
        """What stands before a key, or ends the call; which of them has come is told by its end."""
        self._held += character
        is_last = self._markers.get(self._held)
        if is_last is None:
            self.is_broken = not any(each.startswith(self._held) for each in self._markers)
            return ""
        self._held = ""
        if not is_last:
            self._take = self._take_key
            return ""
        self.is_whole = True
        return "{}" if self._told == _FIRST else "}"

    def _take_key(self, character: str) -> str:
        self._held += character
        key, ending, _ = self._held.partition(self._form.value)
        if not ending:
            self.is_broken = len(self._held) > MAX_KEY_CHARACTERS + len(self._form.value)
            return ""
        if key not in self._bare:
            self.is_broken = True
            return ""
        self._held, self._is_bare = "", self._bare[key]
        self._take = self._take_bare if self._is_bare else self._take_json
        before, self._told = self._told, _MORE
        return f"{before}{_text(key)}: " + ('"' if self._is_bare else "")

    def _take_bare(self, character: str) -> str:
        text = self._up_to_end(character)
        return _text(text)[1:-1] + ('"' if self._take == self._take_marker else "")

    def _take_json(self, character: str) -> str:
        if not self._is_quoted:
            self._is_quoted = character == '"'
            return self._up_to_end(character)
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        else:
            self._is_quoted = character != '"'
        return character

    def _up_to_end(self, character: str) -> str:
        """What of a value is known to belong to it; with its end, what comes is a marker."""
        text = self._held + character
        if text.endswith(self._form.end):
            self._held, self._take = "", self._take_marker
            self._markers = {self._form.following: False, self._form.last: True}
            return text.removesuffix(self._form.end)
        kept = begun(text, self._form.end)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
