"""`unified-llm models`: what there is, and bringing it in and out of memory."""

from typing import Annotated, Any

import typer

from unified_llm.cli import management
from unified_llm.cli.client import Daemon
from unified_llm.cli.render import print_fields, print_json, print_table
from unified_llm.cli.session import AsJson, reporting
from unified_llm.domain.units import render_bytes

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
def load(model: ModelName, as_json: AsJson = False) -> None:
    """Load a model and wait until it serves. Needs root or group unified-llm-admin."""
    _run(management.LOAD, "loaded", model, as_json)


@app.command()
def unload(model: ModelName, as_json: AsJson = False) -> None:
    """Unload a model after the answers it is giving. Needs root or group unified-llm-admin."""
    _run(management.UNLOAD, "unloaded", model, as_json)


def _run(verb: str, done: str, model: str, as_json: bool) -> None:
    jobs: list[int] = []
    with reporting(as_json):
        details = management.run_verb(verb, model, jobs.append)
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
