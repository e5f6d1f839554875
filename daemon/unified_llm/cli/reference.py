"""The reference page of the command line, from the commands themselves.

`python -m unified_llm.cli.reference > docs/reference/cli.md` writes it.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from unified_llm.cli import exit_codes
from unified_llm.cli.main import app
from unified_llm.cli.session import DEFAULT_SOCKET, SOCKET_VARIABLE

_HEAD = f"""# Command line

`unified-llm` is a client of the daemon. Questions go to its Unix socket (`{DEFAULT_SOCKET}`,
or what `{SOCKET_VARIABLE}` names), loading and unloading over D-Bus. With `--json` a command
answers with one JSON value on standard output, also when it fails:
`{{"error": {{"code": …, "message": …, "hint": …}}}}`.

This page is written by `python -m unified_llm.cli.reference > docs/reference/cli.md`; a test
compares it with the commands.
"""


def render_reference() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    parts = [_HEAD, "## Commands\n", *_commands(root, ("unified-llm",)), _exit_statuses()]
    return "\n".join(parts)


# Typer has had its command classes in two packages; what is read here they have in common.
def _commands(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children is None:
        yield _command(command, path)
        return
    for name in sorted(children):
        yield from _commands(children[name], (*path, name))


def _command(command: Any, path: tuple[str, ...]) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join([*path, *(_argument_name(argument) for argument in arguments)])
    lines = [f"### `{usage}`\n", inspect.cleandoc(command.help or "") + "\n"]
    if arguments or options:
        lines += ["| Argument or option | Meaning |", "| --- | --- |"]
        lines += [f"| `{_argument_name(a)}` | {a.help or ''} |" for a in arguments]
        lines += [f"| `{', '.join(sorted(o.opts))}` | {o.help or ''} |" for o in options]
        lines.append("")
    return "\n".join(lines)


def _argument_name(argument: Any) -> str:
    name = str(argument.metavar or argument.name).upper()
    return name if argument.required else f"[{name}]"


def _exit_statuses() -> str:
    rows = [f"| {code} | {meaning} |" for code, meaning in sorted(exit_codes.MEANINGS.items())]
    return "\n".join(["## Exit statuses\n", "| Status | Meaning |", "| --- | --- |", *rows, ""])


if __name__ == "__main__":
    print(render_reference(), end="")
