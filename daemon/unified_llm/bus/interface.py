"""Our interface descriptions, read from the XML files we ship.

The XML is the contract: clients get it as it is, with its annotations and comments, and the
dispatcher takes signatures, access and change signals from it. Only files of ours are parsed,
never what another service says of itself.
"""

# The files are part of the program; nothing else is ever parsed here.
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_EMITS_ANNOTATION = "org.freedesktop.DBus.Property.EmitsChangedSignal"


class ChangeSignal(StrEnum):
    """What clients are told when a property changes: the EmitsChangedSignal annotation."""

    VALUE = "true"
    INVALIDATES = "invalidates"
    CONST = "const"
    NONE = "false"


@dataclass(frozen=True, slots=True)
class Argument:
    """A named value of a method or signal."""

    name: str
    signature: str


@dataclass(frozen=True, slots=True)
class Method:
    """A method; signatures are those of all its arguments together."""

    name: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]

    @property
    def in_signature(self) -> str:
        """Signature of the call."""
        return "".join(argument.signature for argument in self.inputs)

    @property
    def out_signature(self) -> str:
        """Signature of the reply."""
        return "".join(argument.signature for argument in self.outputs)


@dataclass(frozen=True, slots=True)
class SignalDescription:
    """A signal."""

    name: str
    arguments: tuple[Argument, ...]

    @property
    def signature(self) -> str:
        """Signature of the body."""
        return "".join(argument.signature for argument in self.arguments)


@dataclass(frozen=True, slots=True)
class Property:
    """A property; every one of ours can be read."""

    name: str
    signature: str
    is_writable: bool
    emits: ChangeSignal


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface; `xml` is its element as written in the file."""

    name: str
    methods: Mapping[str, Method]
    signals: Mapping[str, SignalDescription]
    properties: Mapping[str, Property]
    xml: str


def load_interface(path: Path) -> Interface:
    """The one interface in a file of ours. Raises ValueError."""
    return parse_interface(path.read_text(encoding="utf-8"))


def parse_interface(text: str) -> Interface:
    """The one interface in the XML `text` of ours. Raises ValueError."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))  # noqa: S314
    try:
        root = ET.fromstring(text, parser)  # noqa: S314
    except ET.ParseError as exc:
        raise ValueError(f"not XML: {exc}") from exc
    elements = root.findall("interface")
    if root.tag != "node" or len(elements) != 1:
        raise ValueError(f"a node with one interface expected, not {len(elements)}")
    (element,) = elements
    element.tail = ""
    default = _emits(element, ChangeSignal.VALUE)
    return Interface(
        name=_attribute(element, "name"),
        methods={method.name: method for method in map(_method, element.findall("method"))},
        signals={signal.name: signal for signal in map(_signal, element.findall("signal"))},
        properties={
            found.name: found
            for found in (_property(child, default) for child in element.findall("property"))
        },
        xml=ET.tostring(element, encoding="unicode"),
    )


def _method(element: ET.Element) -> Method:
    return Method(
        _attribute(element, "name"),
        tuple(_arguments(element, "in", default="in")),
        tuple(_arguments(element, "out", default="in")),
    )


def _signal(element: ET.Element) -> SignalDescription:
    return SignalDescription(
        _attribute(element, "name"), tuple(_arguments(element, "out", default="out"))
    )


def _arguments(element: ET.Element, direction: str, *, default: str) -> Iterator[Argument]:
    for child in element.findall("arg"):
        if child.get("direction", default) == direction:
            yield Argument(_attribute(child, "name"), _attribute(child, "type"))


def _property(element: ET.Element, default: ChangeSignal) -> Property:
    name, access = _attribute(element, "name"), _attribute(element, "access")
    if access not in ("read", "readwrite"):
        raise ValueError(f"property {name}: access {access!r} is not read or readwrite")
    return Property(
        name, _attribute(element, "type"), access == "readwrite", _emits(element, default)
    )


def _emits(element: ET.Element, default: ChangeSignal) -> ChangeSignal:
    for child in element.findall("annotation"):
        if child.get("name") == _EMITS_ANNOTATION:
            return ChangeSignal(_attribute(child, "value"))
    return default


def _attribute(element: ET.Element, name: str) -> str:
    value = element.get(name)
    if not value:
        raise ValueError(f"<{element.tag}> without {name}")
    return value
