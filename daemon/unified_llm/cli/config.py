"""`unified-llm config`: look at a configuration without starting anything."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from unified_llm.cli import exit_codes
from unified_llm.cli.session import AsJson

app = typer.Typer(help="Look at configuration files.", no_args_is_help=True)

_DAEMON = "unified-llmd"


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The configuration file to check.")],
    as_json: AsJson = False,
) -> None:
    """Report every problem of FILE at once; exit with 0 if there is none, else 78.

    The daemon itself checks: this command only calls it, since the command line has no part in
    reading configuration.
    """
    beside = Path(sys.argv[0]).resolve().parent / _DAEMON
    daemon = str(beside) if beside.exists() else shutil.which(_DAEMON)
    if daemon is None:
        typer.echo(f"unified-llm: {_DAEMON} is not installed.", err=True)
        raise typer.Exit(exit_codes.FAILED)
    arguments = [daemon, f"--check-config={file}", *(["--json"] if as_json else [])]
    os.execv(daemon, arguments)  # noqa: S606  no shell, and the program is ours
