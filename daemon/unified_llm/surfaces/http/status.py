"""How the daemon is, as the wire tells of it."""

from unified_llm.domain.devices import DeviceMemory
from unified_llm.operations.library import ScanReport
from unified_llm.operations.status import Health, StatusReport
from unified_llm.wire import native


def health_body(health: Health) -> native.HealthBody:
    """Whether requests are taken."""
    return native.HealthBody(ready=health.ready, state=health.state.value, degraded=health.degraded)


def scan_body(report: ScanReport) -> native.ScanBody:
    """What a look at the disk has found."""
    return native.ScanBody(
        models=report.models,
        added=report.added,
        removed=report.removed,
        problems=report.problems,
    )


def status_body(report: StatusReport) -> native.StatusBody:
    """The whole picture."""
    return native.StatusBody(
        version=report.version,
        health=health_body(report.health),
        uptime_seconds=report.uptime,
        models={state.value: count for state, count in report.models.items()},
        requests=native.RequestsBody(running=report.leases, waiting=report.waiting),
        memory=native.MemoryBody(
            budget_bytes=report.memory_budget,
            committed_bytes=report.memory_committed,
            devices=tuple(_device_body(device, report) for device in report.devices),
        ),
        workers=tuple(
            native.WorkerBody(model=model, sandbox=layers)
            for model, layers in sorted(report.sandboxes.items())
        ),
        providers=tuple(
            native.ProviderBody(
                name=each.provider,
                state=each.state.value,
                trouble=each.trouble and each.trouble.value,
                free_in_seconds=each.free_in,
            )
            for each in report.providers
        ),
        surroundings=native.SurroundingsBody(
            on_battery=report.surroundings.on_battery,
            power_profile=report.surroundings.power_profile,
            memory_pressure_unwatched=report.surroundings.pressure_unwatched,
        ),
    )


def _device_body(device: DeviceMemory, report: StatusReport) -> native.DeviceBody:
    return native.DeviceBody(
        id=device.id,
        name=device.name,
        total_bytes=device.total,
        used_bytes=device.used,
        models_bytes=report.held.get(device.id, 0),
        others_bytes=report.foreign.get(device.id),
    )
