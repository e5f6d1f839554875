"""Which layers may go where, and how those for GPUs are dealt out among them."""

from collections.abc import Sequence
from dataclasses import dataclass

from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Bytes
from unified_llm.planner.estimate import GpuNeeds, Layout
from unified_llm.planner.run_shape import RunShape


@dataclass(frozen=True, slots=True)
class Offload:
    """How much is computed on GPUs.

    layers: so many of the last ones. cpu_experts: see Layout.
    """

    layers: int
    cpu_experts: int = 0


def offloads(profile: ModelProfile, *, has_gpus: bool, needs_gpu: bool) -> tuple[Offload, ...]:
    """From all layers on GPUs down to none.

    Experts leave before whole layers do: a token uses few of them, so that they cost the least time
    in main memory. needs_gpu: leave out whatever computes in main memory.
    """
    if not has_gpus:
        return () if needs_gpu else (Offload(0),)
    count = len(profile.layers)
    whole = (Offload(count),)
    if needs_gpu:
        return whole
    with_experts = [i + 1 for i, layer in enumerate(profile.layers) if layer.expert_bytes]
    moved = tuple(Offload(count, cpu_experts=first) for first in with_experts)
    left = with_experts[-1] if with_experts else 0
    fewer = tuple(Offload(layers, cpu_experts=left) for layers in range(count - 1, -1, -1))
    return whole + moved + fewer


def spread(
    profile: ModelProfile, run: RunShape, offload: Offload, budgets: Sequence[Bytes]
) -> Layout | None:
    """The layout that takes as few GPUs as possible, the roomiest first; None if none fits.

    budgets: of each GPU, in the order in which llama.cpp deals layers out.
    """
    if offload.layers == 0:
        return Layout((0,) * len(budgets), offload.cpu_experts)
    needs = GpuNeeds(profile, run)
    first = len(profile.layers) - offload.layers

    def dealt_to(used: int) -> Layout | None:
        counts = _dealt(needs, range(first, len(profile.layers)), offload, budgets, roomiest[:used])
        return None if counts is None else Layout(counts, offload.cpu_experts)

    roomiest = sorted(range(len(budgets)), key=lambda gpu: (-budgets[gpu], gpu))
    if dealt_to(len(budgets)) is None:
        return None
    return next(filter(None, map(dealt_to, range(1, len(budgets) + 1))))


def _dealt(
    needs: GpuNeeds,
    span: range,
    offload: Offload,
    budgets: Sequence[Bytes],
    chosen: Sequence[int],
) -> tuple[int, ...] | None:
    """Each chosen GPU in turn takes what it can; the first that can take all the rest takes it.

    No other order of these GPUs leaves less for the later ones, so None means that none fits.
    """
    first, counts = span.start, [0] * len(budgets)

    def fits(gpu: int, end: int) -> bool:
        is_last = end == span.stop
        return (
            needs.estimate(first, end, offload.cpu_experts, is_last=is_last).total <= budgets[gpu]
        )

    for gpu in sorted(chosen):
        if fits(gpu, span.stop):
            counts[gpu] = span.stop - first
            return tuple(counts)
        low, high = first, span.stop - 1
        while low < high:
            middle = (low + high + 1) // 2
            if fits(gpu, middle):
                low = middle
            else:
                high = middle - 1
        counts[gpu] = low - first
        first = low
    return None
