"""What a model would take, and how it would be laid out, without loading it."""

from dataclasses import dataclass
from typing import Final

from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad
from unified_llm.domain.models import ModelSpec
from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner.cache_types import CACHE_TYPES, F16, CacheType
from unified_llm.planner.explain import ExplainedPart, explain_parts, explain_sacrifices
from unified_llm.planner.fit import Device, Machine, Plan, Wishes, find_plan

# Each costs a pass over the layers, so their number is bounded.
MAX_SLOTS: Final = 256
MAX_GPUS: Final = 16
MAX_CONTEXT: Final = 2**24


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """What is asked for; None is what the model has in the catalogue, or what the machine has.

    gpus: free memory of each.
    """

    context_tokens: Tokens | None = None
    minimum_context: Tokens | None = None
    slots: int | None = None
    cache_type: str | None = None
    ram: Bytes | None = None
    gpus: tuple[Bytes, ...] = ()
    needs_gpu: bool = False


@dataclass(frozen=True, slots=True)
class PlannedDevice:
    """A device of the machine that was planned for, and what the plan takes of it."""

    name: str
    budget: Bytes
    used: Bytes
    layers: int


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan in all its parts. sacrifices, assumptions: a sentence each."""

    profile: ModelProfile
    plan: Plan
    devices: tuple[PlannedDevice, ...]
    parts: tuple[ExplainedPart, ...]
    sacrifices: tuple[str, ...]


def answer_plan(spec: ModelSpec, question: PlanQuestion, free_ram: Bytes) -> PlanReport:
    """The best plan for `spec`; takes up to a second of computing.

    free_ram: if the question names none. Raises InvalidRequest, NoRoom, and ModelFailedToLoad for
    a model with a defect.
    """
    if spec.profile is None:
        raise ModelFailedToLoad(f"{spec.id} can not be loaded. {spec.defect or ''}".strip())
    wishes = _wishes(spec, question)
    gpus = _gpus(question)
    machine = Machine(Device("RAM", free_ram if question.ram is None else question.ram), gpus)
    plan = find_plan(spec.profile, machine, wishes)
    return PlanReport(
        profile=spec.profile,
        plan=plan,
        devices=_devices(spec.profile, machine, plan),
        parts=explain_parts(spec.profile, machine, plan),
        sacrifices=explain_sacrifices(spec.profile, wishes, plan),
    )


def _wishes(spec: ModelSpec, question: PlanQuestion) -> Wishes:
    context = _within("context_tokens", question.context_tokens, spec.context_tokens, MAX_CONTEXT)
    minimum = _within("minimum_context", question.minimum_context, context, context)
    return Wishes(
        context_tokens=Tokens(context),
        minimum_context=Tokens(minimum),
        slots=_within("slots", question.slots, spec.slots, MAX_SLOTS),
        cache_type=_cache_type(question.cache_type),
        needs_gpu=question.needs_gpu,
    )


def _within(name: str, asked: int | None, default: int, most: int) -> int:
    value = default if asked is None else asked
    if not 1 <= value <= most:
        raise InvalidRequest(f"{name} is {value}; it must be from 1 to {most}.", parameter=name)
    return value


def _cache_type(name: str | None) -> CacheType:
    if name is None:
        return F16
    if (found := CACHE_TYPES.get(name)) is None:
        raise InvalidRequest(
            f"{name[:40]!r} is no cache type.",
            hint=f"There are {', '.join(CACHE_TYPES)}.",
            parameter="cache_type",
        )
    return found


def _gpus(question: PlanQuestion) -> tuple[Device, ...]:
    if len(question.gpus) > MAX_GPUS:
        raise InvalidRequest(
            f"There are {len(question.gpus)} GPUs; at most {MAX_GPUS} are planned for.",
            parameter="gpus",
        )
    return tuple(Device(f"GPU {index}", free) for index, free in enumerate(question.gpus))


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
