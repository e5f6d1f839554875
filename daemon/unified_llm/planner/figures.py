"""What is known of a model's memory better than arithmetic tells it.

A figure holds for its own circumstances and for nothing near them: what llama.cpp allocates jumps
with the layout of its graph, and a wrong guess costs a load.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from unified_llm.domain.devices import RAM
from unified_llm.domain.measurements import DryRun, Figure, FigureSource, MeasuredRun
from unified_llm.domain.units import Bytes
from unified_llm.planner.estimate import DeviceEstimate, Estimate, Layout
from unified_llm.planner.run_shape import RunShape

_Key = tuple[int, int, str, int, int, tuple[tuple[str, int], ...]]

_TRUST: Final = tuple(reversed(FigureSource))


class Figures:
    """The figures of one model file, for the GPUs of one machine.

    gpus: by the names that figures have for them, in the order in which layers are dealt out.
    """

    def __init__(self, known: Iterable[Figure] = (), gpus: Sequence[str] = ()) -> None:
        self._gpus = tuple(gpus)
        by_trust = sorted(known, key=lambda figure: _TRUST.index(figure.source))
        self._known = {_key_of(figure.run): figure for figure in by_trust}
        self.contexts = frozenset(figure.run.context_tokens for figure in self._known.values())

    def layouts(self, run: RunShape, layers: int, cpu_experts: int) -> tuple[Layout, ...]:
        """Those with so many layers on GPUs and experts beside them of which `run` has a figure."""
        found = []
        for key, figure in self._known.items():
            counts = dict(key[-1])
            layout = Layout(tuple(counts.get(gpu, 0) for gpu in self._gpus), figure.run.cpu_experts)
            is_asked = layout.offloaded == layers and layout.cpu_experts == cpu_experts
            if layers and is_asked and key == self._key(run, layout):
                found.append(layout)
        return tuple(found)

    def applied(self, estimate: Estimate, run: RunShape, layout: Layout) -> Estimate:
        """`estimate` as the figure of this very run has it, if there is one."""
        figure = self._known.get(self._key(run, layout))
        if figure is None or run.keeps_whole_windows:
            return estimate
        gpus = (
            _corrected(each, figure, gpu) if each.buffers else each
            for gpu, each in zip(self._gpus, estimate.gpus, strict=True)
        )
        return Estimate(_corrected(estimate.ram, figure, RAM), tuple(gpus), figure.source)

    def _key(self, run: RunShape, layout: Layout) -> _Key:
        pairs = zip(self._gpus, layout.gpu_layers, strict=False)
        return (
            run.context_tokens,
            run.slots,
            run.cache_type.name,
            run.step_tokens,
            layout.cpu_experts if layout.offloaded else 0,
            tuple(sorted((gpu, count) for gpu, count in pairs if count)),
        )


def rehearsed(estimate: Estimate, dry_run: DryRun, gpus: Sequence[str]) -> Estimate:
    """`estimate` with what a dry run of the same load has found.

    gpus: names of its GPUs. A cache of another size than was computed is taken to be spread over
    the devices as the computed one is; one where none was computed, to lie in main memory.
    """
    parts = (estimate.ram, *estimate.gpus)
    caches = [each.cache + each.state for each in parts]
    computed, found = sum(caches), []
    for name, each, cache in zip((RAM, *gpus), parts, caches, strict=True):
        share = cache * dry_run.cache // computed if computed else dry_run.cache * (name == RAM)
        working = dry_run.working.get(name, Bytes(each.compute + each.output))
        total = each.weights + each.repacked + share + working
        is_used = name == RAM or each.buffers
        found.append(replace(each, correction=Bytes(total - each.parts)) if is_used else each)
    return Estimate(found[0], tuple(found[1:]), FigureSource.DRY_RUN)


def _key_of(run: MeasuredRun) -> _Key:
    pairs = zip(run.gpus, run.gpu_layers, strict=False)
    return (
        run.context_tokens,
        run.slots,
        run.cache_type,
        run.step_tokens,
        run.cpu_experts,
        tuple(sorted((gpu, count) for gpu, count in pairs if count)),
    )


def _corrected(estimate: DeviceEstimate, figure: Figure, device: str) -> DeviceEstimate:
    size = figure.devices.get(device)
    if size is None:
        return estimate
    return replace(estimate, correction=Bytes(size - estimate.parts))
