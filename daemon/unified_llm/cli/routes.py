"""`unified-llm route`: who would be asked, and why."""

from typing import Annotated

import typer

from unified_llm.cli.client import Daemon
from unified_llm.cli.render import print_json, print_table, render_safe
from unified_llm.cli.session import AsJson, reporting
from unified_llm.wire.native import ExplainedTargetBody, ExplainShape, ExplanationBody

app = typer.Typer(help="See where requests go.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """See where requests go."""


@app.command()
def explain(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model, a route or an alias, as in a request.")
    ],
    local_only: Annotated[
        bool, typer.Option("--local-only", help="For a request that may not leave the machine.")
    ] = False,
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", min=0, help="For a prompt of that length.")
    ] = 0,
    prompt_bytes: Annotated[
        int, typer.Option("--prompt-bytes", min=0, help="For a prompt of that length in UTF-8.")
    ] = 0,
    tools: Annotated[
        bool, typer.Option("--tools", help="For a request that comes with tools.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which targets would be asked for a request of yours, in which order, and why."""
    asked = ExplainShape(
        model=model,
        local_only=local_only,
        prompt_tokens=prompt_tokens,
        prompt_bytes=prompt_bytes,
        tools=tools,
    )
    with reporting(as_json), Daemon() as daemon:
        found = daemon.explain_route(asked)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            _show(found)


def _show(found: ExplanationBody) -> None:
    typer.echo(f"{render_safe(found.model)}: {found.strategy}")
    for rule in found.rules:
        verdict = "applies" if rule.applies else "does not apply"
        typer.echo(f"rule {rule.number} {verdict}: {render_safe(rule.why)}")
    if found.kept_local is not None:
        typer.echo(f"{render_safe(found.kept_local)} keeps it on this machine")
    print_table(["ASKED", "MODEL", "BACKEND", "WHY"], [_row(each) for each in found.targets])


def _row(target: ExplainedTargetBody) -> list[str]:
    place = "-" if target.place is None else str(target.place)
    return [place, target.model, target.backend, target.reason]
