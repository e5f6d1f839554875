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
    head = ["ASKED", "MODEL", "BACKEND", "SECONDS", "DOLLARS", "WHY"]
    print_table(head, [_row(each) for each in found.targets])
    for each in found.targets:
        if (told := _render_loading(each)) is not None:
            typer.echo(f"{render_safe(each.model)}: {told}")


def _row(target: ExplainedTargetBody) -> list[str]:
    place = "-" if target.place is None else str(target.place)
    seconds = target.first_content_seconds
    return [
        place,
        target.model,
        target.backend,
        "?" if seconds is None else f"{seconds:.2f}",
        target.most_dollars or "?",
        target.reason,
    ]


def _render_loading(target: ExplainedTargetBody) -> str | None:
    """What a load would take; None for a target that is not asked, or not loaded for it."""
    if target.place is None or target.resident or target.backend != "local":
        return None
    if target.leaving is None:
        return "there is no room for it"
    seconds = target.loading_seconds
    told = "loading was not measured yet" if seconds is None else f"loading takes {seconds:.2f} s"
    leaving = ", ".join(map(render_safe, target.leaving))
    return f"{told}; {leaving or 'no model'} would leave for it"
