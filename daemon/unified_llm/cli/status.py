"""`unified-llm status`: how the daemon is."""

import typer

from unified_llm.cli.client import Daemon
from unified_llm.cli.render import print_fields, print_json, render_safe
from unified_llm.cli.session import AsJson, reporting
from unified_llm.domain.units import render_bytes
from unified_llm.wire.native import DeviceBody, ProviderBody, StatusBody, SurroundingsBody


def status(as_json: AsJson = False) -> None:
    """Show how the daemon is: state, models, requests, memory, and what does not work."""
    with reporting(as_json), Daemon() as daemon:
        found = daemon.status()
        if as_json:
            print_json(found.model_dump())
        else:
            _show(found)


def _show(found: StatusBody) -> None:
    states = ", ".join(f"{count} {state}" for state, count in sorted(found.models.items()))
    print_fields(
        [
            ("version", found.version),
            ("state", found.health.state),
            ("up for", f"{found.uptime_seconds:.0f} s"),
            ("models", states or "none"),
            ("requests", f"{found.requests.running} running, {found.requests.waiting} waiting"),
            (
                "memory",
                f"{render_bytes(found.memory.committed_bytes)} of "
                f"{render_bytes(found.memory.budget_bytes)} given to models",
            ),
            *(("device", _device(device)) for device in found.memory.devices),
            ("power", _power(found.surroundings)),
            *(("provider", _provider(provider)) for provider in found.providers),
            *(
                ("sandbox", f"{worker.model}: {', '.join(worker.sandbox) or 'none'}")
                for worker in found.workers
            ),
        ]
    )
    if found.surroundings.memory_pressure_unwatched is not None:
        typer.echo(f"- {render_safe(found.surroundings.memory_pressure_unwatched)}")
    for complaint in found.health.degraded:
        typer.echo(f"! {render_safe(complaint)}")


def _provider(provider: ProviderBody) -> str:
    if provider.trouble is None:
        return f"{provider.name}: asked"
    left = provider.free_in_seconds or 0
    return f"{provider.name}: {provider.trouble}, tried again in {left:.0f} s"


def _power(found: SurroundingsBody) -> str:
    source = {True: "battery", False: "mains", None: "not told"}[found.on_battery]
    return source if found.power_profile is None else f"{source}, profile {found.power_profile}"


def _device(device: DeviceBody) -> str:
    name = render_safe(f"{device.name} ({device.id})")
    if device.total_bytes is None or device.used_bytes is None:
        return f"{name}: its memory is not known"
    used = f"{render_bytes(device.used_bytes)} of {render_bytes(device.total_bytes)} used"
    if device.others_bytes is None:
        return f"{name}: {used}"
    return f"{name}: {used}, {render_bytes(device.others_bytes)} of it by other programs"
