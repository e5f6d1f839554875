"""Text for people: tables, and output that can not take over the terminal."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import typer

# A model's answer is untrusted: without this it could move the cursor, rewrite what stands above
# it, or set the clipboard. Newline and tab stay.
_UNSAFE: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
} | {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def render_safe(text: str) -> str:
    """`text` with control and bidirectional characters escaped."""
    return text.translate(_UNSAFE)


def print_json(value: object) -> None:
    """One JSON value on standard output, ASCII only, so that nothing needs escaping."""
    typer.echo(json.dumps(value))


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; plain text, so that it can be piped."""
    cells = [tuple(heads), *(tuple(render_safe(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Name and value, a line each."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        typer.echo(f"{name.rjust(width)}  {render_safe(value)}")


@contextmanager
def showing_progress(what: str, *, is_wanted: bool) -> Iterator[Callable[[float], None]]:
    """Show fractions as they come on a terminal's standard error; a script sees nothing."""
    is_shown = is_wanted and sys.stderr.isatty()

    def show(fraction: float) -> None:
        if is_shown:
            typer.echo(f"\r{render_safe(what)}: {fraction:4.0%}", nl=False, err=True)

    try:
        yield show
    finally:
        if is_shown:
            typer.echo("\r\x1b[K", nl=False, err=True)
