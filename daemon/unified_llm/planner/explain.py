"""Says where each part of a plan goes, and what was given up for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.measurements import FigureSource
from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Bytes
from unified_llm.planner.estimate import DeviceEstimate
from unified_llm.planner.fit import Machine, Plan, Wishes

_CORRECTIONS: Final = {
    FigureSource.MEASURED: "an earlier load like this took so much more or less",
    FigureSource.DRY_RUN: "a dry run of the engine finds so much more or less",
    FigureSource.ARITHMETIC: "",
}


@dataclass(frozen=True, slots=True)
class ExplainedPart:
    """One line of the table.

    device: as the machine names it. size_bytes: below zero where it corrects other lines. why: half
    a sentence. source: where the figure comes from.
    """

    device: str
    part: str
    size_bytes: Bytes
    why: str
    source: FigureSource = FigureSource.ARITHMETIC


def explain_parts(profile: ModelProfile, machine: Machine, plan: Plan) -> tuple[ExplainedPart, ...]:
    """Everything that takes memory, device by device; what takes none is left out."""
    found = list(_ram_parts(profile, machine.ram.name, plan))
    first = len(profile.layers) - plan.layout.offloaded
    for index, gpu in enumerate(machine.gpus):
        count = plan.layout.gpu_layers[index]
        span = range(first, first + count)
        found.extend(_gpu_parts(profile, gpu.name, plan, index, span))
        first += count
    return tuple(part for part in found if part.size_bytes)


def explain_sacrifices(profile: ModelProfile, wishes: Wishes, plan: Plan) -> tuple[str, ...]:
    """A sentence for each thing that is not as it was wished; none if all is."""
    run, found = plan.run, []
    if run.cache_type is not wishes.cache_type:
        found.append(f"The cache is {run.cache_type.name} instead of {wishes.cache_type.name}.")
    if run.slots != wishes.slots:
        found.append(f"There are {run.slots} of {wishes.slots} slots.")
    if run.context_tokens != wishes.context_tokens:
        found.append(
            f"The context is {run.context_tokens} tokens instead of {wishes.context_tokens}."
        )
    layers, experts = len(profile.layers), plan.layout.cpu_experts
    if plan.layout.gpu_layers and plan.layout.offloaded < layers:
        found.append(f"{layers - plan.layout.offloaded} of {layers} layers stay in main memory.")
    elif experts:
        found.append(f"The routed experts of the first {experts} layers stay in main memory.")
    return tuple(found)


def _ram_parts(profile: ModelProfile, name: str, plan: Plan) -> Iterator[ExplainedPart]:
    need = plan.estimate.ram
    count = len(profile.layers) - plan.layout.offloaded
    what = ["the token embedding"]
    if count:
        what.append(f"layers 0 to {count - 1}")
    if plan.layout.cpu_experts > count:
        what.append(f"routed experts of layers {count} to {plan.layout.cpu_experts - 1}")
    if not plan.layout.offloaded:
        what.append("the output")
    yield ExplainedPart(name, "weights", need.weights, ", ".join(what))
    yield ExplainedPart(
        name, "repacked weights", need.repacked, "second copies in the order this CPU is fast with"
    )
    yield from _working_parts(name, need, plan)
    yield ExplainedPart(
        name,
        "output",
        need.output,
        f"{profile.vocabulary_size} logits for each slot",
    )
    yield ExplainedPart(name, "drafts", need.drafts, f"logits of {plan.run.drafted} drafted tokens")
    yield ExplainedPart(name, "process", need.process, "the worker before it loads anything")


def _gpu_parts(
    profile: ModelProfile, name: str, plan: Plan, index: int, span: range
) -> Iterator[ExplainedPart]:
    need = plan.estimate.gpus[index]
    what = [f"layers {span.start} to {span.stop - 1}"]
    if span.stop == len(profile.layers):
        what.append("the output")
    if plan.layout.cpu_experts > span.start:
        what.append("experts of the first ones left in main memory")
    yield ExplainedPart(name, "weights", need.weights, ", ".join(what))
    yield from _working_parts(name, need, plan)


def _working_parts(name: str, need: DeviceEstimate, plan: Plan) -> Iterator[ExplainedPart]:
    run = plan.run
    slots = "1 slot" if run.slots == 1 else f"{run.slots} slots"
    yield ExplainedPart(
        name,
        "cache",
        need.cache,
        f"{run.cache_type.name} keys and values of {run.context_tokens} tokens in {slots}",
    )
    yield ExplainedPart(name, "state", need.state, f"recurrent state of {slots}")
    yield ExplainedPart(
        name,
        "compute",
        need.compute,
        f"intermediate results of {run.graph_tokens} tokens at a time",
    )
    yield ExplainedPart(
        name,
        "correction",
        need.correction,
        _CORRECTIONS[plan.estimate.source],
        plan.estimate.source,
    )
