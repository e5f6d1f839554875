"""How much memory a loaded model takes on each device, by arithmetic alone.

Source: the pinned llama.cpp, `src/llama-model.cpp` (`load_tensors`: what goes to which device),
`src/llama-kv-cache.cpp`, `src/llama-memory-recurrent.cpp` and `src/llama-context.cpp`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from unified_llm.domain.measurements import FigureSource
from unified_llm.domain.profile import LayerProfile, ModelProfile
from unified_llm.domain.units import Bytes
from unified_llm.planner.compute import layer_buffer, mask_bytes, output_buffer
from unified_llm.planner.run_shape import RunShape

# Measured for a worker that has loaded nothing.
PROCESS_BYTES: Final = Bytes(64 * 1024 * 1024)

# What a process takes of each GPU it uses before any buffer. A guess on the safe side: it differs
# between drivers, and nothing tells it before the first load.
GPU_CONTEXT_BYTES: Final = Bytes(512 * 1024**2)

_F32: Final = 4
# What ggml's CPU backend keeps a second, interleaved copy of where it has AVX2 or AVX-512
# (`ggml/src/ggml-cpu/repack.cpp`). The first copy stays mapped from the file.
_REPACKED: Final = frozenset({"Q4_0", "Q4_K", "Q2_K", "IQ4_NL", "MXFP4"})


@dataclass(frozen=True, slots=True)
class Layout:
    """Which device computes what, in llama.cpp's order: the first layers stay in main memory.

    gpu_layers: how many of the last layers each GPU takes, in turn. The output goes with the last
        layer, and the input stays.
    cpu_experts: of how many layers, from the first, the routed experts stay in main memory.
    """

    gpu_layers: tuple[int, ...] = ()
    cpu_experts: int = 0

    @property
    def offloaded(self) -> int:
        """Layers on any GPU."""
        return sum(self.gpu_layers)


@dataclass(frozen=True, slots=True)
class DeviceEstimate:
    """What one device holds.

    repacked: second copies of weights. cache: keys and values. state: of recurrent layers.
    compute: intermediate results. output: logits handed to the sampler. process: the worker itself.
    drafts: logits of drafted tokens, which llama.cpp allocates when there are some, not in a load.
    correction: by how much a better source than arithmetic differs from the sum of these; may be
    below zero.
    """

    weights: Bytes = Bytes(0)
    repacked: Bytes = Bytes(0)
    cache: Bytes = Bytes(0)
    state: Bytes = Bytes(0)
    compute: Bytes = Bytes(0)
    output: Bytes = Bytes(0)
    process: Bytes = Bytes(0)
    drafts: Bytes = Bytes(0)
    correction: Bytes = Bytes(0)

    @property
    def buffers(self) -> Bytes:
        """What llama.cpp allocates in a load."""
        return Bytes(self.parts + self.correction)

    @property
    def parts(self) -> Bytes:
        """Likewise, by arithmetic."""
        return Bytes(
            self.weights + self.repacked + self.cache + self.state + self.compute + self.output
        )

    @property
    def total(self) -> Bytes:
        """All of it."""
        return Bytes(self.buffers + self.process + self.drafts)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model takes: in main memory, and on each GPU of the layout."""

    ram: DeviceEstimate
    gpus: tuple[DeviceEstimate, ...]
    source: FigureSource = FigureSource.ARITHMETIC

    @property
    def total(self) -> Bytes:
        """On all devices together."""
        return Bytes(self.ram.total + sum(gpu.total for gpu in self.gpus))


def estimate_memory(profile: ModelProfile, run: RunShape, layout: Layout | None = None) -> Estimate:
    """What `profile` takes when it is run like this, and laid out like that or in main memory."""
    layout = layout or Layout()
    needs, first, gpus = GpuNeeds(profile, run), len(profile.layers) - layout.offloaded, []
    ram = _ram(profile, run, first, layout)
    for count in layout.gpu_layers:
        end = first + count
        is_last = end == len(profile.layers)
        gpus.append(needs.estimate(first, end, layout.cpu_experts, is_last=is_last))
        first = end
    return Estimate(ram, tuple(gpus))


def cache_bytes(layer: LayerProfile, run: RunShape) -> Bytes:
    """Keys and values of one layer, for all slots."""
    row = run.cache_type.row_bytes(layer.key_width) + run.cache_type.row_bytes(layer.value_width)
    return Bytes(row * run.cells(layer.window) * run.slots)


def state_bytes(layer: LayerProfile, run: RunShape) -> Bytes:
    """Recurrent state of one layer, for all slots."""
    return Bytes(_F32 * layer.state_width * run.sequences)


class GpuNeeds:
    """What a GPU holds for any run of layers, in constant time: a search asks many times."""

    def __init__(self, profile: ModelProfile, run: RunShape) -> None:
        layers = profile.layers
        self._weights = _sums(layer.weight_bytes for layer in layers)
        self._experts = _sums(layer.expert_bytes for layer in layers)
        self._cache = _sums(cache_bytes(layer, run) for layer in layers)
        self._state = _sums(state_bytes(layer, run) for layer in layers)
        self._output_weights = profile.output_bytes + profile.tied_bytes
        self._layer_buffer = layer_buffer(profile, run)
        self._last_buffer = max(self._layer_buffer, output_buffer(profile, run))

    def estimate(self, first: int, end: int, cpu_experts: int, *, is_last: bool) -> DeviceEstimate:
        """For the layers from `first` up to `end`; is_last: and the output.

        cpu_experts: see Layout.
        """
        if first == end:
            return DeviceEstimate()
        left_behind = self._experts[min(max(cpu_experts, first), end)] - self._experts[first]
        weights = self._weights[end] - self._weights[first] - left_behind
        return DeviceEstimate(
            weights=Bytes(weights + self._output_weights * is_last),
            cache=Bytes(self._cache[end] - self._cache[first]),
            state=Bytes(self._state[end] - self._state[first]),
            compute=self._last_buffer if is_last else self._layer_buffer,
        )


def _sums(sizes: Iterable[int]) -> tuple[int, ...]:
    return tuple(accumulate(sizes, initial=0))


def _ram(profile: ModelProfile, run: RunShape, count: int, layout: Layout) -> DeviceEstimate:
    layers = profile.layers[:count]
    experts = sum(layer.expert_bytes for layer in profile.layers[count : layout.cpu_experts])
    weights = profile.input_bytes + experts + sum(layer.weight_bytes for layer in layers)
    repacked = sum(_repacked(layer.matrices) for layer in layers)
    left_behind = profile.layers[count : layout.cpu_experts]
    repacked += sum(min(_repacked(one.matrices), one.expert_bytes) for one in left_behind)
    if layout.offloaded:
        # The embedding of a step and the masks are made here, and copied.
        embedded = _F32 * profile.widths.embedding * run.graph_tokens
        compute = Bytes(embedded + mask_bytes(profile, run))
        if layers or experts:
            compute = layer_buffer(profile, run)
    else:
        weights += profile.output_bytes
        repacked += _repacked(profile.matrices)
        compute = max(layer_buffer(profile, run), output_buffer(profile, run))
    return DeviceEstimate(
        weights=Bytes(weights),
        repacked=Bytes(repacked),
        cache=Bytes(sum(cache_bytes(layer, run) for layer in layers)),
        state=Bytes(sum(state_bytes(layer, run) for layer in layers)),
        compute=compute,
        output=Bytes(_F32 * _output_width(profile, run) * run.outputs),
        process=PROCESS_BYTES,
        drafts=Bytes(_F32 * profile.vocabulary_size * run.drafted),
    )


def _output_width(profile: ModelProfile, run: RunShape) -> int:
    return profile.vocabulary_size + (profile.widths.embedding if run.is_whole else 0)


def _repacked(matrices: Iterable[tuple[str, Bytes]]) -> int:
    return sum(size for type_, size in matrices if type_ in _REPACKED)
