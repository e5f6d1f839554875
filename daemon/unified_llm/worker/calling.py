"""Calls in an answer, told apart from its text while it comes.

A model is free to write until it has written what its calls begin with (`CallForm.trigger`). The
token that completes that is the first one that has to keep to the grammar of calls, so a call that
has begun is one that a tool can take. White space between the pieces of a form has no meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from unified_llm.domain.chat import ToolUse
from unified_llm.grammar.calls import ID_CHARACTERS, ID_SLOT, CallForm, calls_grammar, must_call
from unified_llm.grammar.parameters import ParameterForm, bare_parameters
from unified_llm.worker.parameters import ParameterReader
from unified_llm.worker.text import begun

_NAME_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
)


@dataclass(frozen=True, slots=True)
class CallPiece:
    """The next piece of a call. name: of its first piece, and only of that."""

    index: int
    name: str | None = None
    arguments: str = ""


class CallWatch:
    """Tells when the calls of an answer begin, by the bytes of its tokens.

    is_all_constrained: a grammar has said from the first token on that the answer is calls or
        something else, so it is calls only if it begins with them, and no other grammar is needed.
    has_begun: from the first token on, if the answer must be calls.
    """

    def __init__(self, form: CallForm, use: ToolUse, *, is_all_constrained: bool = False) -> None:
        self._form = form
        self._use = use
        self._is_all_constrained = is_all_constrained
        self._is_only_first = form.is_only_first or is_all_constrained
        self._trigger = form.trigger.encode()
        self._tail = b""
        self._is_on = not must_call(use)
        self.has_begun = must_call(use)

    def grammar_from(self, piece: bytes) -> str | None:
        """The grammar to keep to from the token with these bytes on; None to go on freely."""
        if not self._is_on:
            return None
        text = self._tail + piece
        place = text.find(self._trigger)
        if place < 0 or (self._is_only_first and text[:place].strip()):
            self._tail = self._kept(text)
            return None
        self._is_on = False
        if self._is_all_constrained:
            self.has_begun = True
            return None
        written = self._trigger[: max(0, len(self._tail) - place)]
        try:
            grammar = calls_grammar(self._form, self._use, written.decode())
        except UnicodeDecodeError:
            return None  # half a character is written, and no grammar goes on from there
        self.has_begun = True
        return grammar

    def _kept(self, text: bytes) -> bytes:
        """The end of `text` that a trigger may begin in."""
        if self._is_only_first:
            start = text.lstrip()
            self._is_on = self._trigger.startswith(start)
            return start
        return text[len(text) - begun(text, self._trigger) :]


class _State(Enum):
    TEXT = auto()
    OPENING = auto()
    NAME = auto()
    MIDDLE = auto()
    ARGUMENTS = auto()
    AFTER = auto()
    OVER = auto()


class CallSplitter:
    """Splits what a model says into text and pieces of calls, however it is cut.

    watch: has to be shown the tokens of the answer; only what it has seen begin is a call.
    is_all_constrained: as in CallWatch.
    """

    def __init__(self, form: CallForm, use: ToolUse, *, is_all_constrained: bool = False) -> None:
        self._form = form
        self._use = use
        self.watch = CallWatch(form, use, is_all_constrained=is_all_constrained)
        self._state = _State.TEXT
        self._held = ""
        self._name = ""
        self._fixed = _Fixed(form.opening)
        self._between = _Fixed("")
        self._arguments: _Arguments = _JsonArguments()
        self._calls = 0
        self._is_silent = True  # white space before a call, with no other text, is not told

    @property
    def calls(self) -> int:
        """How many calls are whole."""
        return self._calls

    def feed(self, text: str) -> list[str | CallPiece]:
        """What is known for sure now."""
        if self._state is _State.TEXT:
            text = self._held + text
            self._held = ""
            return list(self._read_text(text))
        return list(self._read_call(text))

    def finish(self) -> list[str | CallPiece]:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return [held] if held and self._state is _State.TEXT else []

    def _read_text(self, text: str) -> Iterator[str | CallPiece]:
        trigger = self._form.trigger
        place = text.find(trigger) if self.watch.has_begun else -1
        if place >= 0:
            before, text = text[:place], text[place:]
            if before and (before.strip() or not self._is_silent):
                yield before
            self._state = _State.OPENING
            yield from self._read_call(text)
            return
        kept = begun(text, trigger)
        if self._is_silent and not text[: len(text) - kept].strip():
            kept = len(text)
        told, self._held = text[: len(text) - kept], text[len(text) - kept :]
        if told:
            self._is_silent = False
            yield told

    def _is_in_arguments(self) -> bool:
        return self._state is _State.ARGUMENTS

    def _read_call(self, text: str) -> Iterator[str | CallPiece]:
        pending = ""  # of the arguments
        for character in text:
            if not self._is_in_arguments():
                name = self._take(character)
                if name is not None:
                    yield CallPiece(self._calls, name)
            if self._is_in_arguments():
                pending += self._arguments.take(character)
                if self._arguments.is_whole:
                    yield CallPiece(self._calls, arguments=pending)
                    pending = ""
                    self._end_call()
                elif self._arguments.is_broken:
                    self._state = _State.OVER
        if pending:
            yield CallPiece(self._calls, arguments=pending)

    def _take(self, character: str) -> str | None:
        """One character outside of arguments; a name that has become whole by it."""
        match self._state:
            case _State.OPENING:
                self._fixed.take(character)
                if self._fixed.is_whole:
                    self._begin_name()
            case _State.NAME:
                return self._take_name(character)
            case _State.MIDDLE:
                self._take_middle(character)
            case _State.AFTER:
                self._between.take(character)
                if self._between.is_whole:
                    self._begin_name()
            case _:
                pass
        return None

    def _begin_name(self) -> None:
        self._state, self._name = _State.NAME, ""
        self._fixed = _Fixed(self._form.middle)

    def _take_name(self, character: str) -> str | None:
        if character in _NAME_CHARACTERS:
            self._name += character
            return None
        if self._form.parameters is not None:
            self._arguments = self._parameters(self._form.parameters)
            self._state = _State.ARGUMENTS
        else:
            self._state = _State.MIDDLE
            self._take_middle(character)
        return self._name

    def _parameters(self, form: ParameterForm) -> ParameterReader:
        schemas = (tool.parameters for tool in self._use.tools if tool.name == self._name)
        return ParameterReader(form, bare_parameters(form, next(schemas, "{}")))

    def _take_middle(self, character: str) -> None:
        if self._fixed.is_whole and character == "{":
            self._arguments = _JsonArguments()
            self._state = _State.ARGUMENTS
        elif not self._fixed.take(character):
            self._state = _State.OVER

    def _end_call(self) -> None:
        self._calls += 1
        between = self._form.between
        self._between = _Fixed(between or "")
        self._state = _State.OVER if between is None else _State.AFTER


class _Fixed:
    """Compares a fixed text with what comes, white space left out of both."""

    def __init__(self, text: str) -> None:
        self._due = "".join(text.split()).replace(ID_SLOT, ID_SLOT * ID_CHARACTERS)
        self._matched = 0
        self.is_broken = False

    @property
    def is_whole(self) -> bool:
        return not self.is_broken and self._matched == len(self._due)

    def take(self, character: str) -> bool:
        """Whether it still fits with one more character."""
        if character.isspace() or self.is_broken:
            return not self.is_broken
        due = self._due[self._matched : self._matched + 1]
        fits = character == due or (due == ID_SLOT and character in _NAME_CHARACTERS)
        self._matched += fits
        self.is_broken = not fits
        return fits


class _Arguments(Protocol):
    """As ParameterReader, which reads other arguments than JSON."""

    is_whole: bool
    is_broken: bool

    def take(self, character: str) -> str: ...


class _JsonArguments:
    """Reads arguments that are a JSON object, from its first character on."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_text = False
        self._is_escaped = False
        self.is_whole = False
        self.is_broken = False

    def take(self, character: str) -> str:
        if self._is_text:
            if self._is_escaped:
                self._is_escaped = False
            elif character == "\\":
                self._is_escaped = True
            elif character == '"':
                self._is_text = False
        elif character == '"':
            self._is_text = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
        self.is_whole = self._depth == 0
        return character
