"""What every command shares: where the daemon is, how to answer, how to fail."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from unified_llm.cli import exit_codes
from unified_llm.cli.render import print_json, render_safe
from unified_llm.domain.errors import UnifiedLlmError

DEFAULT_SOCKET: Final = "/run/unified-llm/api.sock"
SOCKET_VARIABLE: Final = "UNIFIED_LLM_SOCKET"

AsJson = Annotated[
    bool, typer.Option("--json", help="Answer with JSON on standard output, for scripts.")
]


NoInteraction = Annotated[
    bool,
    typer.Option("--no-interaction", help="Fail rather than have somebody asked for a password."),
]


class DaemonUnreachable(Exception):
    """Nobody answers at the door. The message says which door, and what to look at."""


def socket_path() -> str:
    """The daemon's socket: UNIFIED_LLM_SOCKET, else where the packaged daemon puts it."""
    return os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET


@dataclass(frozen=True, slots=True)
class _Failure:
    code: str
    message: str
    hint: str
    status: int


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Turn a failure into one message on standard error and an exit status."""
    try:
        yield
    except UnifiedLlmError as error:
        code = exit_codes.exit_code(error)
        _fail(_Failure(error.code, error.message, error.hint, code), as_json)
    except DaemonUnreachable as error:
        _fail(_Failure("unreachable", str(error), "", exit_codes.UNREACHABLE), as_json)
    except OSError as error:
        # Standard input or output: what the doors raise has other types by now.
        if isinstance(error, BrokenPipeError):
            raise  # `| head` has seen enough; Typer ends quietly
        _give_up_output()
        text = f"Cannot read input or write output: {error.strerror}."
        _fail(_Failure("terminal", text, "", exit_codes.FAILED), as_json=False)
    except KeyboardInterrupt:
        raise typer.Exit(exit_codes.INTERRUPTED) from None


def _give_up_output() -> None:
    """Let nothing buffered be written at exit, which would fail again, with a trace."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _fail(failure: _Failure, as_json: bool) -> None:
    if as_json:
        shown = {"code": failure.code, "message": failure.message, "hint": failure.hint}
        print_json({"error": shown})
    else:
        text = f"{failure.message} {failure.hint}".strip()
        typer.echo(f"unified-llm: {render_safe(text)}", err=True)
    raise typer.Exit(failure.status)


def parse_json(text: str) -> object:
    """The JSON value in an answer of the daemon's. Raises DaemonUnreachable if it is none."""
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise DaemonUnreachable(
            f"What answers at {socket_path()} does not speak our protocol: {error}"
        ) from error
    return value
