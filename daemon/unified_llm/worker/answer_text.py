"""What of an answer may be shown, and which of its tokens that is.

A token belongs to the first character it has a byte of. It is shown together with that character,
so a token that ends inside a character waits for the next, and one that lies wholly in a stop text
is never shown.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from unified_llm.worker.protocol import Score
from unified_llm.worker.text import CharacterJoiner, StopTexts


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown, and the scores of its tokens, if they were given.

    starts: where in the text each of those begins.
    """

    text: str
    scores: tuple[Score, ...] = ()
    starts: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.text or self.scores)


class AnswerText:
    """The text of one answer, from the bytes of its tokens. stops: texts that end it."""

    def __init__(self, stops: Iterable[str]) -> None:
        self._joiner = CharacterJoiner()
        self._stops = StopTexts(stops)
        self._read = 0
        self._shown = 0
        self._held: deque[tuple[int, Score]] = deque()

    @property
    def is_met(self) -> bool:
        """Whether a stop text has come; nothing is shown any more."""
        return self._stops.is_met

    def feed(self, data: bytes, score: Score | None) -> Piece:
        """What may be shown now that one more token is known."""
        if score is not None:
            self._held.append((self._read, score))
        characters = self._joiner.feed(data)
        self._read += len(characters)
        return self._show(self._stops.feed(characters))

    def finish(self) -> Piece:
        """What was held back, now that no more tokens come.

        Bytes that make no whole character have no text, but their tokens are told.
        """
        text = self._stops.flush()
        if self.is_met:
            return self._show(text)
        held, self._held = tuple(self._held), deque()
        return self._piece(text, held)

    def _show(self, text: str) -> Piece:
        end, shown = self._shown + len(text), []
        while self._held and self._held[0][0] < end:
            shown.append(self._held.popleft())
        return self._piece(text, tuple(shown))

    def _piece(self, text: str, shown: tuple[tuple[int, Score], ...]) -> Piece:
        begin, self._shown = self._shown, self._shown + len(text)
        starts = tuple(start - begin for start, _ in shown)
        return Piece(text, tuple(score for _, score in shown), starts)


class ScoreQueue:
    """The scores of text that is told later than it came, or not at all."""

    def __init__(self) -> None:
        self._fed = 0
        self._told = 0
        self._held: deque[tuple[int, Score]] = deque()

    def feed(self, piece: Piece) -> None:
        """This comes next."""
        starts = (self._fed + start for start in piece.starts)
        self._held.extend(zip(starts, piece.scores, strict=True))
        self._fed += len(piece.text)

    def take(self, text: str) -> tuple[Score, ...]:
        """Those of the tokens that begin in `text`, which is told next."""
        self._told += len(text)
        found = []
        while self._held and self._held[0][0] < self._told:
            found.append(self._held.popleft()[1])
        return tuple(found)

    def take_rest(self) -> tuple[Score, ...]:
        """Those that are left, of tokens that make no character."""
        found = tuple(score for _, score in self._held)
        self._held.clear()
        return found
