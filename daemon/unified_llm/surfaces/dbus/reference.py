"""Writes docs/reference/dbus.md from the interface files.

    python -m unified_llm.surfaces.dbus.reference > docs/reference/dbus.md

The documentation stands in the files as comments in the form that gdbus-codegen(1) reads: a name
and a colon, arguments as `@name: text`, an empty line, paragraphs. The example of a method is its
annotation org.unifiedllm1.Example, since a comment in XML can not hold two hyphens.
"""

import sys

# Only files of ours are parsed.
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import dedent
from typing import Final

from unified_llm.bus import faults
from unified_llm.bus.interface import (
    Argument,
    ChangeSignal,
    Interface,
    Method,
    Property,
    SignalDescription,
)
from unified_llm.bus.names import BUS_NAME, LOG_CONTROL_PATH, ROOT_PATH
from unified_llm.surfaces.dbus import contract

_EXAMPLE: Final = f"{BUS_NAME}.Example"

_CHANGES: Final = {
    ChangeSignal.VALUE: "changes are announced",
    ChangeSignal.INVALIDATES: "changes are announced without the new value",
    ChangeSignal.CONST: "never changes",
    ChangeSignal.NONE: "changes are not announced",
}

_HEAD: Final = f"""\
# D-Bus reference

Written by `python -m unified_llm.surfaces.dbus.reference` from the interface files in
`daemon/unified_llm/surfaces/dbus/interfaces/`; change those. The daemon serves the same files to
`busctl introspect {BUS_NAME} {ROOT_PATH}`.

| | |
|---|---|
| bus | the system bus |
| name | `{BUS_NAME}` |
| the daemon | `{ROOT_PATH}`, with `{BUS_NAME}.Manager` and `org.freedesktop.DBus.ObjectManager` |
| models | `{ROOT_PATH}/model/NAME`, with `{BUS_NAME}.Model` |
| GPUs | `{ROOT_PATH}/gpu/NUMBER`, with `{BUS_NAME}.Gpu` |
| jobs | `{ROOT_PATH}/job/_ID`, with `{BUS_NAME}.Job` |
| leases | `{ROOT_PATH}/lease/_ID`, with `{BUS_NAME}.Lease` |
| its log | `{LOG_CONTROL_PATH}`, with `org.freedesktop.LogControl1` |

Whoever calls is known by the uid and the groups with which they joined the bus; nothing a caller
says of itself counts. What a method asks polkit for stands with the method; [polkit.md](polkit.md)
says who may by default and how to change it. Where the setting `dbus.authority` is `groups`, the
daemon's two groups decide instead, as on the socket. Each caller is told what it may not do with
`org.freedesktop.DBus.Error.AccessDenied`, and the refusal is recorded in the audit log. `busctl`
shows "Access denied" in place of any text that comes under this name; `gdbus` shows it. What would
be allowed after a password is refused with `InteractiveAuthorizationRequired` unless the message
allows interaction: `busctl` does by default, `gdbus call` with `--interactive`.

`busctl` and most other clients wait 25 seconds for a reply. What may take longer is shown with
`--timeout=300`. In the examples `tiny` is the id of a model, and `$JOB` and `$LEASE` are object
paths of a job and a lease.
What a caller has streaming ends when it leaves the bus; loading and unloading
go on, except a load with `cancel_on_disconnect`.

What busctl prints: [dbus-transcripts.md](dbus-transcripts.md). Whole programs in 60 lines:
[desktop_client.py](../examples/desktop_client.py) and, in GJS,
[desktop_client.js](../examples/desktop_client.js).
"""


@dataclass(frozen=True, slots=True)
class Comment:
    """A documentation comment: texts of arguments, and paragraphs, each on one line."""

    arguments: Mapping[str, str]
    paragraphs: tuple[str, ...]


def parse_comment(text: str) -> tuple[str, Comment]:
    """The name that a comment documents, and what it says."""
    name, _, rest = dedent(text).strip().partition(":")
    arguments: dict[str, str] = {}
    paragraphs: list[str] = []
    for block in rest.strip().split("\n\n"):
        if not block.startswith("@"):
            paragraphs.append(_on_one_line(block))
            continue
        for entry in f"\n{block}".split("\n@")[1:]:
            argument, _, said = entry.partition(":")
            arguments[argument] = _on_one_line(said)
    return name, Comment(arguments, tuple(filter(None, paragraphs)))


def comments_of(interface: Interface) -> dict[str, Comment]:
    """The comments in the file of an interface, by the name of what they document."""
    text = contract.interface_file(interface.name).read_text(encoding="utf-8")
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))  # noqa: S314
    root = ET.fromstring(text, parser)  # noqa: S314
    found = [element for element in root.iter() if callable(element.tag)]
    return dict(parse_comment(comment.text or "") for comment in found)


def examples_of(interface: Interface) -> dict[str, str]:
    """A command line for each member of an interface, by its name."""
    element = ET.fromstring(interface.xml)  # noqa: S314
    written = {
        str(method.get("name")): str(annotation.get("value"))
        for method in element.findall("method")
        for annotation in method.findall("annotation")
        if annotation.get("name") == _EXAMPLE
    }
    path = _path_of(interface)
    read = {
        name: f"busctl get-property {BUS_NAME} {path} {interface.name} {name}"
        for name in interface.properties
    }
    rule = f"type='signal',interface='{interface.name}',member="
    heard = {name: f"busctl monitor --match \"{rule}'{name}'\"" for name in interface.signals}
    return written | read | heard


def render_reference() -> str:
    """The whole reference as Markdown."""
    return "\n".join([_HEAD, *map(_render_interface, contract.INTERFACES), _render_errors()])


def _path_of(interface: Interface) -> str:
    return {
        contract.MANAGER.name: ROOT_PATH,
        contract.MODEL.name: f"{ROOT_PATH}/model/tiny",
        contract.JOB.name: '"$JOB"',
        contract.LEASE.name: '"$LEASE"',
        contract.GPU.name: f"{ROOT_PATH}/gpu/0",
        contract.LOG_CONTROL.name: LOG_CONTROL_PATH,
    }[interface.name]


def _render_interface(interface: Interface) -> str:
    comments, examples = comments_of(interface), examples_of(interface)
    about = comments[interface.name]
    parts = [f"## {interface.name}\n", f"{about.arguments['short_description']}\n"]
    parts += [f"{paragraph}\n" for paragraph in about.paragraphs]
    members: list[Method | SignalDescription | Property] = [
        *interface.methods.values(),
        *interface.signals.values(),
        *interface.properties.values(),
    ]
    for member in members:
        parts += _render_member(member, comments[member.name], examples[member.name])
    return "\n".join(parts)


def _render_member(
    member: Method | SignalDescription | Property, comment: Comment, example: str
) -> Iterator[str]:
    match member:
        case Method():
            yield f"### Method {member.name}\n"
            yield f"`{member.name}{_plain(member.inputs)} → {_plain(member.outputs)}`\n"
            yield from _render_arguments((*member.inputs, *member.outputs), comment)
        case SignalDescription():
            yield f"### Signal {member.name}\n"
            yield f"`{member.name}{_plain(member.arguments)}`\n"
            yield from _render_arguments(member.arguments, comment)
        case Property():
            yield f"### Property {member.name}\n"
            can = "can be set, " if member.is_writable else ""
            yield f"`{member.name} {member.signature}`, {can}{_CHANGES[member.emits]}.\n"
    yield from (f"{paragraph}\n" for paragraph in comment.paragraphs)
    yield f"```sh\n{example}\n```\n"


def _render_arguments(arguments: tuple[Argument, ...], comment: Comment) -> Iterator[str]:
    if arguments:
        yield (
            "\n".join(
                f"- `{argument.name}` (`{argument.signature}`): {comment.arguments[argument.name]}"
                for argument in arguments
            )
            + "\n"
        )


def _render_errors() -> str:
    rows = [
        f"| `{name}` | `{error.code}` | {_on_one_line((error.__doc__ or '').partition('.')[0])}. |"
        for error, name in sorted(faults.NAMES.items(), key=lambda item: item[1])
    ]
    head = (
        "## Errors\n\nThe text of an error states the fact with its numbers and what to do next. "
        "The code is what the HTTP API, the audit log and the last line of a stream call it.\n"
    )
    return "\n".join([head, "| name | code | meaning |", "|---|---|---|", *rows, ""])


def _plain(arguments: tuple[Argument, ...]) -> str:
    inside = ", ".join(f"{argument.name} {argument.signature}" for argument in arguments)
    return f"({inside})"


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(render_reference())
