"""What a model would take, and how it would be laid out, without loading it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from unified_llm.domain.devices import RAM, DeviceId
from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad
from unified_llm.domain.measurements import DryRun, FigureSource
from unified_llm.domain.models import GpuUse, ModelSpec, Speculation
from unified_llm.domain.placement import Placement
from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner.cache_types import CACHE_TYPES, CacheType
from unified_llm.planner.estimate import GPU_CONTEXT_BYTES
from unified_llm.planner.explain import ExplainedPart, explain_parts, explain_sacrifices
from unified_llm.planner.figures import rehearsed
from unified_llm.planner.fit import (
    DEFAULT_ORDER,
    Device,
    Machine,
    Plan,
    Sacrifice,
    Wishes,
    find_plan,
)

# Each costs a pass over the layers, so their number is bounded.
MAX_SLOTS: Final = 256
MAX_GPUS: Final = 16
MAX_CONTEXT: Final = 2**24


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """What is asked for; None is what the model has in the catalogue, or what the machine has.

    gpus: free memory of each; none for a machine without. is_rehearsed: whether the engine goes
    through the load without allocating; only on the machine's own GPUs.
    """

    context_tokens: Tokens | None = None
    minimum_context: Tokens | None = None
    slots: int | None = None
    cache_type: str | None = None
    ram: Bytes | None = None
    gpus: tuple[Bytes, ...] | None = None
    needs_gpu: bool | None = None
    is_rehearsed: bool = False


@dataclass(frozen=True, slots=True)
class PlannedDevice:
    """A device of the machine that was planned for, and what the plan takes of it."""

    name: str
    budget: Bytes
    used: Bytes
    layers: int


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan in all its parts, for `machine`. sacrifices: a sentence each."""

    profile: ModelProfile
    machine: Machine
    plan: Plan
    devices: tuple[PlannedDevice, ...]
    parts: tuple[ExplainedPart, ...]
    sacrifices: tuple[str, ...]


def answer_plan(
    spec: ModelSpec,
    question: PlanQuestion,
    free: Mapping[DeviceId, Bytes],
    order: tuple[Sacrifice, ...] = DEFAULT_ORDER,
) -> PlanReport:
    """The best plan for `spec`; takes up to a second of computing.

    free: of the machine's own devices, main memory among them, for what the question does not name.
    order: what is given up first. Raises InvalidRequest, NoRoom, and ModelFailedToLoad for a model
    with a defect.
    """
    if spec.profile is None:
        raise ModelFailedToLoad(f"{spec.id} can not be loaded. {spec.defect or ''}".strip())
    wishes = _wishes(spec, question, order)
    ram = free.get(RAM, Bytes(0)) if question.ram is None else question.ram
    machine = Machine(Device("RAM", ram), _gpus(spec, question, free))
    plan = find_plan(spec.profile, machine, wishes, spec.figures)
    return PlanReport(
        profile=spec.profile,
        machine=machine,
        plan=plan,
        devices=_devices(spec.profile, machine, plan),
        parts=explain_parts(spec.profile, machine, plan),
        sacrifices=explain_sacrifices(spec.profile, wishes, plan),
    )


def placement_of(spec: ModelSpec, report: PlanReport) -> Placement:
    """What a load by this plan would be given."""
    plan, is_on_gpu = report.plan, bool(report.plan.layout.offloaded)
    return Placement(
        context_tokens=plan.run.context_tokens,
        slots=plan.run.slots,
        threads=spec.threads,
        memory={},
        cache_type=plan.run.cache_type.name,
        layers=len(report.profile.layers),
        gpus=tuple(DeviceId(gpu.name) for gpu in report.machine.gpus) if is_on_gpu else (),
        gpu_layers=plan.layout.gpu_layers if is_on_gpu else (),
        cpu_experts=plan.layout.cpu_experts if is_on_gpu else 0,
    )


def with_dry_run(report: PlanReport, dry_run: DryRun) -> PlanReport:
    """The same plan with what a dry run of it has found; a measurement is worth more."""
    plan, machine = report.plan, report.machine
    if plan.estimate.source is FigureSource.MEASURED:
        return report
    gpus = [gpu.name for gpu in machine.gpus]
    better = replace(plan, estimate=rehearsed(plan.estimate, dry_run, gpus))
    return replace(
        report,
        plan=better,
        devices=_devices(report.profile, machine, better),
        parts=explain_parts(report.profile, machine, better),
    )


def _wishes(spec: ModelSpec, question: PlanQuestion, order: tuple[Sacrifice, ...]) -> Wishes:
    context = _within("context_tokens", question.context_tokens, spec.context_tokens, MAX_CONTEXT)
    least = context if spec.minimum_context is None else min(spec.minimum_context, context)
    minimum = _within("minimum_context", question.minimum_context, least, context)
    must = spec.gpu is GpuUse.REQUIRED if question.needs_gpu is None else question.needs_gpu
    return Wishes(
        context_tokens=Tokens(context),
        minimum_context=Tokens(minimum),
        slots=_within("slots", question.slots, spec.slots, MAX_SLOTS),
        cache_type=_cache_type(question.cache_type or spec.cache_type),
        order=order,
        needs_gpu=must,
        drafts=spec.drafting is not Speculation.OFF,
    )


def _within(name: str, asked: int | None, default: int, most: int) -> int:
    value = default if asked is None else asked
    if not 1 <= value <= most:
        raise InvalidRequest(f"{name} is {value}; it must be from 1 to {most}.", parameter=name)
    return value


def _cache_type(name: str) -> CacheType:
    if (found := CACHE_TYPES.get(name)) is None:
        raise InvalidRequest(
            f"{name[:40]!r} is no cache type.",
            hint=f"There are {', '.join(CACHE_TYPES)}.",
            parameter="cache_type",
        )
    return found


def _gpus(
    spec: ModelSpec, question: PlanQuestion, free: Mapping[DeviceId, Bytes]
) -> tuple[Device, ...]:
    if question.gpus is None:
        own = () if spec.gpu is GpuUse.OFF else [each for each in free if each != RAM]
        return tuple(Device(gpu, free[gpu], GPU_CONTEXT_BYTES) for gpu in own)
    if question.gpus and question.is_rehearsed:
        raise InvalidRequest(
            "A dry run shows what the machine's own GPUs would hold, and others are named.",
            hint="Leave out either of them.",
            parameter="gpus",
        )
    if len(question.gpus) > MAX_GPUS:
        raise InvalidRequest(
            f"There are {len(question.gpus)} GPUs; at most {MAX_GPUS} are planned for.",
            parameter="gpus",
        )
    return tuple(
        Device(f"GPU {index}", size, GPU_CONTEXT_BYTES) for index, size in enumerate(question.gpus)
    )


def _devices(profile: ModelProfile, machine: Machine, plan: Plan) -> tuple[PlannedDevice, ...]:
    ram = PlannedDevice(
        machine.ram.name,
        machine.ram.budget,
        plan.estimate.ram.total,
        len(profile.layers) - plan.layout.offloaded,
    )
    gpus = (
        PlannedDevice(gpu.name, gpu.budget, need.total, layers)
        for gpu, need, layers in zip(
            machine.gpus, plan.estimate.gpus, plan.layout.gpu_layers, strict=True
        )
    )
    return (ram, *gpus)
