"""YAML text to plain values, with the line of every key.

Stricter than YAML on purpose: what two readers could understand in two ways is a problem, not a
value. Names must be text, once per mapping; there are no aliases, merge keys or tags, so the size
of the text bounds the size of the value. PyYAML's event stream is read instead of its object tree
because building the tree recurses without a limit and forgets the lines.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

import yaml

from unified_llm.domain.errors import Problem

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]
KeyPath = tuple[str, ...]

# A thousand models with every field fit three times over; settings nest three deep.
MAX_NODES = 50_000
MAX_DEPTH = 16

_TAG = "tag:yaml.org,2002:"
_KINDS = {f"{_TAG}{name}": name for name in ("str", "int", "float", "bool", "null", "merge")}
_PLAIN_TAGS = frozenset({*_KINDS, f"{_TAG}map", f"{_TAG}seq", "!"})
_NOT_TEXT = {"int": "a number", "float": "a number", "bool": "true or false", "null": "null"}


@dataclass(frozen=True, slots=True)
class Document:
    """What was read.

    lines: 1-based line of each key path.
    problems: what was left out of `values`, and why. broken: key paths that have no value for it.
    """

    values: dict[str, Value]
    lines: dict[KeyPath, int]
    problems: tuple[Problem, ...]
    broken: frozenset[KeyPath]


def render_path(path: KeyPath) -> str:
    """The dotted form of `path`, safe for a terminal whatever a name in the file holds."""
    shown = (part if part.isprintable() else ascii(part)[1:-1] for part in path)
    return ".".join(part if len(part) <= 130 else f"{part[:130]}…" for part in shown)


class _Unreadable(Exception):
    """Reading cannot go on after this problem."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.problem = Problem("", line, message)


class _Omitted:
    """In place of a value that a problem has been noted about."""


_OMITTED = _Omitted()


def parse_document(text: str) -> Document:
    """The values in untrusted `text`; empty text has none. Never raises: see `problems`."""
    reader = _Reader(text)
    values: dict[str, Value] = {}
    try:
        values = reader.top()
    except _Unreadable as stop:
        # Half a document would bring complaints about what merely was not read any more.
        return Document({}, {}, (stop.problem,), frozenset({()}))
    return Document(values, reader.lines, tuple(reader.problems), frozenset(reader.broken))


@dataclass(slots=True)
class _Reader:
    """One pass over the events of one text."""

    text: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    broken: set[KeyPath] = field(default_factory=set)
    _breaks: list[int] = field(default_factory=list)
    _nodes: int = 0
    _loader: yaml.SafeLoader = field(init=False)

    def __post_init__(self) -> None:
        # Editors count line feeds; YAML's own marks also count U+0085 and U+2028.
        self._breaks = [at for at, letter in enumerate(self.text) if letter == "\n"]

    def top(self) -> dict[str, Value]:
        try:
            self._loader = yaml.SafeLoader(self.text)
        except yaml.reader.ReaderError as error:
            message = f"holds the character U+{error.character:04X}, which YAML does not allow"
            raise _Unreadable(message, self._line_at(error.position)) from error
        self._next()  # start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            return {}
        event = self._next()
        value = self._value(event, (), 0)
        self._next()  # end of the document
        if not isinstance(following := self._next(), yaml.StreamEndEvent):
            raise _Unreadable(
                "a second document begins here; only one is read", self._line(following)
            )
        if value is None or isinstance(value, dict):
            return value or {}
        if not self.problems:
            self._note((), self._line(event), "the file is not a list of sections", "`name:` lines")
        return {}

    def _next(self) -> yaml.Event:
        try:
            event: yaml.Event = self._loader.get_event()  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = self._line_at(mark.index) if mark else None
            raise _Unreadable(
                f"this is not YAML: {error.problem or error.context}", line
            ) from error
        except (ValueError, OverflowError) as error:
            # PyYAML does not check the code point of a \U escape, nor the digits of %YAML.
            raise _Unreadable("this is not YAML", self._line_at(self._loader.index)) from error
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Unreadable(f"more than {MAX_NODES} keys and values", self._line(event))
        return event

    def _line_at(self, index: int) -> int:
        return bisect_right(self._breaks, index - 1) + 1

    def _line(self, event: yaml.Event) -> int:
        # The pure-Python loader, which is used here, marks every event.
        assert event.start_mark is not None  # noqa: S101
        return self._line_at(event.start_mark.index)

    def _note(self, path: KeyPath, line: int, message: str, expected: str = "") -> _Omitted:
        self.problems.append(Problem(render_path(path), line, message, expected))
        self.broken.add(path)
        return _OMITTED

    def _value(self, event: yaml.Event, path: KeyPath, depth: int) -> Value | _Omitted:
        line = self._line(event)
        if depth > MAX_DEPTH:
            raise _Unreadable(f"nested more than {MAX_DEPTH} deep", line)
        if isinstance(event, yaml.AliasEvent):
            return self._note(path, line, "is an alias; aliases are not read", "the value itself")
        tag: str | None = getattr(event, "tag", None)
        if tag is not None and tag not in _PLAIN_TAGS:
            self._skip(event)
            return self._note(path, line, f"has the tag {tag[:40]!r}", "a value without a tag")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._mapping(path, depth)

    def _sequence(self, path: KeyPath, depth: int) -> Value:
        items: list[Value] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            here = (*path, str(len(items)))
            self.lines[here] = self._line(event)
            item = self._value(event, here, depth + 1)
            items.append(None if isinstance(item, _Omitted) else item)
        return items

    def _mapping(self, path: KeyPath, depth: int) -> Value:
        found: dict[str, Value] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            name = self._name(event, path)
            if name is None:
                self._skip(self._next())
                continue
            here = (*path, name)
            if here in self.lines:
                first = self.lines[here]
                message = f"is given twice, first on line {first}"
                self.problems.append(Problem(render_path(here), self._line(event), message))
                self._skip(self._next())
                continue
            self.lines[here] = self._line(event)
            value = self._value(self._next(), here, depth + 1)
            if not isinstance(value, _Omitted):
                found[name] = value
        return found

    def _name(self, event: yaml.Event, path: KeyPath) -> str | None:
        """The text of a key; None if it has been noted as a problem."""
        line = self._line(event)
        if not isinstance(event, yaml.ScalarEvent):
            self._skip(event)
            self._note((*path, "?"), line, "a name is not text", "text")
            return None
        kind = self._kind(event)
        here = (*path, event.value)
        if kind == "merge":
            self._note(here, line, "merge keys are not read", "the settings themselves")
            return None
        if kind != "str":
            what = _NOT_TEXT.get(kind, "not text")
            self._note(here, line, f"the name {event.value[:80]!r} is {what}", "text; use quotes")
            return None
        return event.value if self._is_storable(event, here) else None

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Value | _Omitted:
        kind = self._kind(event)
        try:
            value = _CONVERSIONS[kind](event.value)
        except (ValueError, KeyError, IndexError):
            shown = event.value[:40]
            return self._note(path, self._line(event), f"{shown!r} is not a value of type {kind}")
        if isinstance(value, str) and not self._is_storable(event, path):
            return _OMITTED
        return value

    def _is_storable(self, event: yaml.ScalarEvent, path: KeyPath) -> bool:
        """Whether the kernel could be given the text; escapes can write what a file cannot hold."""
        if not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in event.value):
            return True
        self._note(path, self._line(event), "holds a NUL or half a surrogate pair", "other text")
        return False

    def _kind(self, event: yaml.ScalarEvent) -> str:
        tag: str | None = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(  # type: ignore[no-untyped-call]
                yaml.ScalarNode, event.value, event.implicit
            )
        # A date is text here: no setting is one.
        return _KINDS.get(tag or "", "str")

    def _skip(self, event: yaml.Event) -> None:
        """Read past the node that begins with `event`."""
        depth = _depth_change(event)
        while depth:
            depth += _depth_change(self._next())


def _depth_change(event: yaml.Event) -> int:
    if isinstance(event, yaml.CollectionStartEvent):
        return 1
    return -1 if isinstance(event, yaml.CollectionEndEvent) else 0


_constructor = yaml.constructor.SafeConstructor()


def _converted(kind: str, text: str) -> Value:
    node = yaml.ScalarNode(f"{_TAG}{kind}", text)
    value: Value = getattr(_constructor, f"construct_yaml_{kind}")(node)
    return value


_CONVERSIONS: dict[str, Callable[[str], Value]] = {
    "str": str,
    "merge": str,
    "null": lambda _: None,
    "int": lambda text: _converted("int", text),
    "float": lambda text: _converted("float", text),
    "bool": lambda text: _converted("bool", text),
}
