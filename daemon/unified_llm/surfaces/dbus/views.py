"""What the daemon knows, as the property values that the interface files promise."""

from typing import Final

from unified_llm.bus import faults
from unified_llm.bus.names import ROOT_PATH, job_path, model_path
from unified_llm.bus.values import Variant
from unified_llm.domain.errors import UnifiedLlmError, concrete_errors
from unified_llm.domain.events import BudgetNearlySpent, ModelStatus, Surroundings
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelSpec
from unified_llm.domain.money import render_dollars
from unified_llm.domain.providers import RemoteModel
from unified_llm.operations.devices import Gpu
from unified_llm.operations.inhibitors import Inhibitor
from unified_llm.operations.jobs import Details, Job, JobState
from unified_llm.operations.memory_leases import MemoryLease
from unified_llm.operations.models import ModelView

LOADED: Final = frozenset({ModelState.READY, ModelState.DRAINING})
BACKEND: Final = "local"
FORMAT: Final = "gguf"
NO_ERROR: Final = ("", "")

_PRESSURES: Final[dict[bool | None, int]] = {None: 0, False: 1, True: 2}
_MICROSECONDS: Final = 1_000_000
# The smallest number of the type `i`: no sensor shows it, and 0 degrees is a temperature.
_NO_TEMPERATURE: Final = -(2**31)
_ERROR_NAMES: Final = {error.code: faults.NAMES[error] for error in concrete_errors()}


def error_of(error: UnifiedLlmError | None) -> tuple[str, str]:
    """D-Bus error name and text; two empty texts if there is no error."""
    return NO_ERROR if error is None else faults.describe(error)


def model_properties(view: ModelView) -> dict[str, object]:
    """Every property of org.unifiedllm1.Model."""
    spec = view.spec
    return {
        "Id": spec.id,
        "Backend": _backend(view),
        "Format": FORMAT if isinstance(spec, ModelSpec) else "",
        **file_properties(spec),
        **status_properties(view.status),
        **unannounced_properties(view),
    }


def file_properties(spec: ModelSpec | RemoteModel) -> dict[str, object]:
    """Those properties of a model that tell of its file."""
    if isinstance(spec, RemoteModel):
        return {"SizeBytes": 0, "Sha256": ""}
    return {"SizeBytes": spec.size_bytes, "Sha256": spec.digest or ""}


def unannounced_properties(view: ModelView) -> dict[str, object]:
    """Those properties of a model that change with each request."""
    return {
        "Leases": view.status.leases,
        "LastUsed": round((view.last_used or 0) * _MICROSECONDS),
    }


def _backend(view: ModelView) -> str:
    return view.spec.provider if isinstance(view.spec, RemoteModel) else BACKEND


def status_properties(status: ModelStatus) -> dict[str, object]:
    """Those properties of a model that change with its status."""
    code, message = status.last_error or NO_ERROR
    return {
        "State": status.state.value,
        "LoadProgress": _percent(status.progress),
        "LoadProgressValid": status.progress is not None,
        "MemoryBytes": status.memory_bytes or 0,
        "LastError": (code and _ERROR_NAMES[code], message),
        "ContextTokens": status.context_tokens or 0,
        "Sacrifices": [] if status.placement is None else list(status.placement.sacrifices),
    }


def listed(view: ModelView) -> tuple[object, ...]:
    """One entry of ListModels."""
    status = view.status
    memory = status.memory_bytes or 0
    return (status.id, status.state.value, _backend(view), memory, model_path(status.id))


def listed_job(job: Job) -> tuple[object, ...]:
    """One entry of ListJobs."""
    uid, progress = job.owner.uid, _percent(job.progress)
    return (job.id, job.type.value, job.target, uid, progress, job.state.value, job_path(job.id))


def listed_inhibitor(inhibitor: Inhibitor) -> tuple[object, ...]:
    """One entry of ListInhibitors."""
    what = ":".join(sorted(inhibitor.what))
    owner = inhibitor.owner
    return (what, inhibitor.who, inhibitor.why, inhibitor.mode.value, owner.uid, owner.pid or 0)


def gpu_properties(gpu: Gpu) -> dict[str, object]:
    """Every property of org.unifiedllm1.Gpu."""
    memory = gpu.memory
    return {
        "Index": gpu.number,
        "Id": memory.id,
        "Uuid": memory.uuid or "",
        "Name": memory.name,
        **gpu_changes(gpu),
    }


def gpu_changes(gpu: Gpu) -> dict[str, object]:
    """Those properties of a GPU that change."""
    memory = gpu.memory
    is_known = memory.free is not None
    return {
        "VramTotal": memory.total if is_known else 0,
        "VramUsed": memory.used if is_known else 0,
        "VramFree": memory.free if is_known else 0,
        "VramManaged": gpu.managed,
        "Temperature": _NO_TEMPERATURE if memory.temperature is None else memory.temperature,
        "ReadTimestampMonotonic": round(gpu.read * _MICROSECONDS),
    }


def surroundings_properties(found: Surroundings) -> dict[str, object]:
    """Those properties of the manager that tell of the machine."""
    return {
        "OnBattery": found.on_battery is True,
        "VramPressure": _PRESSURES[found.is_gpu_full],
    }


def budget_warning(found: BudgetNearlySpent) -> tuple[object, ...]:
    """The arguments of BudgetWarning."""
    spent, limit = render_dollars(found.spent), render_dollars(found.limit)
    return (found.budget, found.period, found.principal or "", spent, limit)


def lease_properties(lease: MemoryLease) -> dict[str, object]:
    """Every property of org.unifiedllm1.Lease."""
    return {
        "Id": lease.id,
        "Bytes": lease.size,
        "Who": lease.who,
        "Why": lease.why,
        "State": lease.state.value,
    }


def job_properties(job: Job) -> dict[str, object]:
    """Every property of org.unifiedllm1.Job."""
    return {
        "Id": job.id,
        "Type": job.type.value,
        "Target": model_path(job.target) if job.target else ROOT_PATH,
        "StartedByUID": job.owner.uid,
        "StartTimestamp": round(job.started_at * _MICROSECONDS),
        "StartTimestampMonotonic": round(job.started * _MICROSECONDS),
        **job_changes(job),
    }


def job_changes(job: Job) -> dict[str, object]:
    """Those properties of a job that change."""
    return {
        "State": job.state.value,
        "Progress": _percent(job.progress),
        "ProgressValid": job.progress is not None,
        **_transfer_changes(job),
        "Cancelable": job.is_cancelable,
        "Result": _result(job),
        "Error": error_of(job.error),
    }


def _transfer_changes(job: Job) -> dict[str, object]:
    transfer = job.transfer
    if transfer is None:
        return dict.fromkeys(("BytesTotal", "BytesDone", "Rate", "ExpectedEndTime"), 0)
    is_over = job.state is JobState.FINISHED
    return {
        "BytesTotal": transfer.total,
        "BytesDone": transfer.done,
        "Rate": 0 if is_over else round(transfer.rate or 0),
        "ExpectedEndTime": 0 if is_over else round((job.expected_end or 0) * _MICROSECONDS),
    }


def job_removed(job: Job) -> tuple[object, ...]:
    """The arguments of JobRemoved."""
    return (job.id, job.type.value, job_path(job.id), _result(job), *error_of(job.error))


def job_outcome(job: Job) -> tuple[str, dict[str, Variant]]:
    """Result and details of a finished job, as Wait returns them."""
    details = variants(job.details)
    if job.error is not None:
        name, message = error_of(job.error)
        details |= {"error_name": Variant("s", name), "error_message": Variant("s", message)}
    return _result(job), details


def _result(job: Job) -> str:
    return "" if job.result is None else job.result.value


def _percent(progress: float | None) -> float:
    # A load reports each tensor: in whole percents it makes at most a hundred signals.
    return 0.0 if progress is None else round(progress, 2)


def variants(details: Details) -> dict[str, Variant]:
    """Details as an a{sv}; the reference states the types."""
    return {key: Variant(_signature(key, value), value) for key, value in details.items()}


def _signature(key: str, value: str | float) -> str:
    match value:
        case str():
            return "s"
        case int():
            return "u" if key.endswith("_tokens") else "t"
        case _:
            return "d"
