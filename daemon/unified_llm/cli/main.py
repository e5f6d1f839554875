"""The command: `unified-llm`. One file per group of commands; this one only joins them."""

from importlib.metadata import version
from typing import Annotated

import typer

from unified_llm.cli import chat, config, games, lease, models, routes, status, usage

app = typer.Typer(
    name="unified-llm",
    help="Talk to the daemon that owns this machine's language models.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("chat")(chat.chat)
app.command("status")(status.status)
app.command("usage")(usage.usage)
# What follows the first word of the command is the command's, `-` or not.
app.command("lease", context_settings={"allow_interspersed_args": False})(lease.lease)
app.command("session")(games.session)
app.add_typer(models.app, name="models")
app.add_typer(routes.app, name="route")
app.add_typer(config.app, name="config")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(version("unified-llm"))
        raise typer.Exit


@app.callback()
def _root(
    is_version_wanted: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Talk to the daemon that owns this machine's language models."""


def main() -> None:
    """Entry point; docs/reference/cli.md has the exit statuses."""
    app()


if __name__ == "__main__":
    main()
