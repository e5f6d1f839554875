"""`unified-llm models`: what there is, what it takes, and bringing it in and out of memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from unified_llm.bus.values import Variant
from unified_llm.cli import management
from unified_llm.cli.client import Daemon
from unified_llm.cli.management import Verb
from unified_llm.cli.render import (
    print_fields,
    print_json,
    print_table,
    render_safe,
    showing_progress,
)
from unified_llm.cli.session import AsJson, NoInteraction, reporting
from unified_llm.cli.sizes import parse_size
from unified_llm.domain.errors import InvalidRequest
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
    verb = Verb(management.LOAD, "s", (model,))
    _run(verb, "loaded", model, as_json, may_interact=not is_silent)


@app.command()
def unload(model: ModelName, as_json: AsJson = False, is_silent: NoInteraction = False) -> None:
    """Unload a model after the answers it is giving. polkit decides who may, as with load."""
    verb = Verb(management.UNLOAD, "s", (model,))
    _run(verb, "unloaded", model, as_json, may_interact=not is_silent)


@app.command()
def switch(
    leaving: Annotated[str, typer.Argument(metavar="FROM", help="The model that is to leave.")],
    arriving: Annotated[str, typer.Argument(metavar="TO", help="The one that takes its place.")],
    as_json: AsJson = False,
    is_silent: NoInteraction = False,
) -> None:
    """Load a model in the place of another; requests for either are answered, none is dropped.

    polkit decides who may, as with load.
    """
    verb = Verb(management.SWITCH, "ss", (leaving, arriving))
    _run(verb, "loaded", arriving, as_json, may_interact=not is_silent)


@app.command()
def scan(as_json: AsJson = False, is_silent: NoInteraction = False) -> None:
    """Look for model files again. Changes are noticed without it, but on disks of other machines.

    polkit decides who may, as with load.
    """
    jobs: list[int] = []
    with reporting(as_json):
        found = management.run_verb(Verb(management.SCAN), jobs.append, may_interact=not is_silent)
        if as_json:
            print_json({"result": "scanned", "job": jobs[0], "details": found})
        else:
            typer.echo(
                f"{found['models']} models: {found['added']} new, {found['removed']} gone; "
                f"{found['problems']} problems"
            )


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A GGUF file that you can read.")],
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Its model id (default: as its header says)."),
    ] = None,
    as_json: AsJson = False,
    is_silent: NoInteraction = False,
) -> None:
    """Copy a model file into the daemon's directory, where every user can ask it.

    The daemon is handed the open file, so it may lie where only you can read. polkit decides who
    may, as with load.
    """
    jobs: list[int] = []
    options = {} if name is None else {"as": Variant("s", name)}
    with reporting(as_json), _open_for_reading(file) as descriptor:
        verb = Verb(management.IMPORT, "h", (descriptor,), options)
        with showing_progress(f"importing {file.name}", is_wanted=not as_json) as show:
            found = management.run_verb(verb, jobs.append, show, may_interact=not is_silent)
        if as_json:
            print_json({"result": "imported", "job": jobs[0], "details": found})
        else:
            typer.echo(f"{found['model']} is imported, SHA-256 {found['sha256']}")


@app.command("rm")
def remove(
    model: ModelName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Unload it first if it is loaded.")
    ] = False,
    as_json: AsJson = False,
    is_silent: NoInteraction = False,
) -> None:
    """Delete a model's file from the daemon's directory. polkit decides who may, as with load."""
    if not yes:
        typer.confirm(f"Delete the file of {render_safe(model)} for good?", abort=True, err=True)
    verb = Verb(management.REMOVE, "s", (model,), {"force": Variant("b", force)})
    _run(verb, "removed", model, as_json, may_interact=not is_silent)


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
        int | None,
        typer.Option(
            "--gpus", min=0, max=16, help="How many GPUs of --vram; 0 for a machine without."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Have the engine go through the load without allocating."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model would take and what would go where, without loading it.

    Sizes are such as 8G, 512M or 6.5GiB, in binary units. Without --ram, --vram and --gpus, what
    the daemon has left.
    """
    asked = PlanShape(
        context_tokens=context,
        minimum_context=minimum_context,
        slots=slots,
        cache_type=cache_type,
        ram_bytes=ram,
        gpu_bytes=_gpus(vram, gpus),
        dry_run=dry_run,
    )
    with reporting(as_json), Daemon() as daemon:
        found = daemon.plan(model, asked)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            _print_plan(found)


def _gpus(vram: int | None, count: int | None) -> tuple[int, ...] | None:
    """Those to plan for; None for the machine's own."""
    if vram is None and count:
        raise typer.BadParameter("--gpus needs --vram, the free memory of each.")
    if vram is None:
        return None if count is None else ()
    return (vram,) * (1 if count is None else count)


def _print_plan(found: PlanBody) -> None:
    print_table(
        ["DEVICE", "PART", "SIZE", "SOURCE", "WHY"],
        [
            [part.device, part.part, render_bytes(part.bytes), part.source, part.why]
            for part in found.parts
        ],
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
        f"{render_bytes(found.total_bytes)} in all ({found.source})."
    )
    for sentence in (*found.sacrifices, *found.assumptions):
        typer.echo(sentence)


@contextmanager
def _open_for_reading(file: Path) -> Iterator[int]:
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer, perhaps for ever.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidRequest(f"{file} can not be opened: {error.strerror}.") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _run(verb: Verb, done: str, model: str, as_json: bool, *, may_interact: bool) -> None:
    jobs: list[int] = []
    with reporting(as_json):
        details = management.run_verb(verb, jobs.append, may_interact=may_interact)
        if as_json:
            print_json({"model": model, "result": done, "job": jobs[0], "details": details})
        else:
            typer.echo(f"{model} is {done}")


def _row(model: dict[str, Any]) -> list[str]:
    own = model["x_unified_llm"]
    context = own.get("context_tokens")
    return [
        model["id"],
        own["state"],
        _size(own.get("size_bytes")),
        _size(own.get("memory_bytes")),
        "-" if context is None else str(context),
    ]


def _size(size: int | None) -> str:
    """A model of a provider takes nothing here."""
    return "-" if size is None else render_bytes(size)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    return str(value)
