"""`unified-llm models`: what there is, what it takes, and bringing it in and out of memory."""

from typing import Annotated, Any

import typer

from unified_llm.cli import management
from unified_llm.cli.client import Daemon
from unified_llm.cli.render import print_fields, print_json, print_table
from unified_llm.cli.session import AsJson, NoInteraction, reporting
from unified_llm.cli.sizes import parse_size
from unified_llm.domain.units import render_bytes
from unified_llm.wire.native import PlanBody, PlanShape

app = typer.Typer(help="See, load and unload models.", no_args_is_help=True)

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model id, see `models list`.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List every model with its state."""
    with reporting(as_json), Daemon() as daemon:
        found = daemon.models()
        if as_json:
            print_json(found)
        else:
            print_table(["MODEL", "STATE", "SIZE", "MEMORY", "CONTEXT"], [_row(m) for m in found])


@app.command()
def show(model: ModelName, as_json: AsJson = False) -> None:
    """Show all that is known of one model."""
    with reporting(as_json), Daemon() as daemon:
        found = daemon.model(model)
        if as_json:
            print_json(found)
            return
        own = found["x_unified_llm"]
        print_fields(
            [("model", found["id"]), *((name, _text(value)) for name, value in own.items())]
        )


@app.command()
def load(model: ModelName, as_json: AsJson = False, is_silent: NoInteraction = False) -> None:
    """Load a model and wait until it serves. polkit decides who may, and may ask for a password."""
    _run(management.LOAD, "loaded", model, as_json, may_interact=not is_silent)


@app.command()
def unload(model: ModelName, as_json: AsJson = False, is_silent: NoInteraction = False) -> None:
    """Unload a model after the answers it is giving. polkit decides who may, as with load."""
    _run(management.UNLOAD, "unloaded", model, as_json, may_interact=not is_silent)


@app.command()
def plan(
    model: ModelName,
    context: Annotated[
        int | None, typer.Option("--context", min=1, help="Tokens of context of each slot.")
    ] = None,
    minimum_context: Annotated[
        int | None,
        typer.Option("--min-context", min=1, help="Down to which the context may be cut."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Conversations at the same time.")
    ] = None,
    cache_type: Annotated[
        str | None, typer.Option("--cache-type", help="f16, q8_0, q4_0, …")
    ] = None,
    ram: Annotated[
        int | None,
        typer.Option("--ram", parser=parse_size, metavar="SIZE", help="Main memory to plan for."),
    ] = None,
    vram: Annotated[
        int | None,
        typer.Option("--vram", parser=parse_size, metavar="SIZE", help="Free memory of each GPU."),
    ] = None,
    gpus: Annotated[
        int, typer.Option("--gpus", min=1, max=16, help="How many GPUs, with --vram.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Show what a model would take and what would go where, without loading it.

    Sizes are such as 8G, 512M or 6.5GiB, in binary units. Without --ram, what the daemon has left;
    without --vram, no GPU.
    """
    asked = PlanShape(
        context_tokens=context,
        minimum_context=minimum_context,
        slots=slots,
        cache_type=cache_type,
        ram_bytes=ram,
        gpu_bytes=() if vram is None else (vram,) * gpus,
    )
    with reporting(as_json), Daemon() as daemon:
        found = daemon.plan(model, asked)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            _print_plan(found)


def _print_plan(found: PlanBody) -> None:
    print_table(
        ["DEVICE", "PART", "SIZE", "WHY"],
        [[part.device, part.part, render_bytes(part.bytes), part.why] for part in found.parts],
    )
    typer.echo()
    print_table(
        ["DEVICE", "LAYERS", "TAKES", "OF"],
        [
            [
                device.name,
                str(device.layers),
                render_bytes(device.used_bytes),
                render_bytes(device.budget_bytes),
            ]
            for device in found.devices
        ],
    )
    typer.echo(
        f"\n{found.slots} x {found.context_tokens} tokens of {found.cache_type} cache take "
        f"{render_bytes(found.total_bytes)} in all."
    )
    for sentence in (*found.sacrifices, *found.assumptions):
        typer.echo(sentence)


def _run(verb: str, done: str, model: str, as_json: bool, *, may_interact: bool) -> None:
    jobs: list[int] = []
    with reporting(as_json):
        details = management.run_verb(verb, model, jobs.append, may_interact=may_interact)
        if as_json:
            print_json({"model": model, "result": done, "job": jobs[0], "details": details})
        else:
            typer.echo(f"{model} is {done}")


def _row(model: dict[str, Any]) -> list[str]:
    own = model["x_unified_llm"]
    memory = own["memory_bytes"]
    return [
        model["id"],
        own["state"],
        render_bytes(own["size_bytes"]),
        "-" if memory is None else render_bytes(memory),
        str(own["context_tokens"]),
    ]


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    return str(value)
