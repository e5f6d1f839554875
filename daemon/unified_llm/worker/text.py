"""From token bytes to the text that may be shown: whole characters, and nothing of a stop text."""

import codecs
from collections.abc import Iterable
from typing import AnyStr


class CharacterJoiner:
    """Joins bytes that tokens have cut anywhere into whole characters.

    Bytes that are no UTF-8 become U+FFFD, as the Unicode standard recommends (section 3.9).
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, piece: bytes) -> str:
        """The characters that `piece` completes. A character cut off at the end never appears."""
        return self._decoder.decode(piece)


class StopTexts:
    """Lets text through up to the first stop text, which may be spread over several pieces."""

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self._is_met = False

    @property
    def is_met(self) -> bool:
        """Whether a stop text has come; nothing is let through any more."""
        return self._is_met

    def feed(self, text: str) -> str:
        """What may be shown now; text that may be the beginning of a stop text is held back."""
        if self._is_met:
            return ""
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._is_met, self._held = True, ""
            return text[: min(found)]
        kept = len(text) - self._longest_beginning_at_end(text)
        self._held = text[kept:]
        return text[:kept]

    def flush(self) -> str:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held

    def _longest_beginning_at_end(self, text: str) -> int:
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


def begun(text: AnyStr, marker: AnyStr) -> int:
    """How much of the end of `text` may be the beginning of `marker`."""
    longest = min(len(marker) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if marker.startswith(text[-n:])), 0)
