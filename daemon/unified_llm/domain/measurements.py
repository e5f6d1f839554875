"""What models take, known better than by arithmetic, and under which circumstances it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from unified_llm.domain.units import Bytes, Seconds, Tokens


class FigureSource(StrEnum):
    """How a figure of memory came about, the most trustworthy first."""

    MEASURED = "measured"  # a load like this took it
    DRY_RUN = "dry-run"  # the engine went through the load without allocating
    ARITHMETIC = "arithmetic"  # computed from the header


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """All that decides what a model takes: two loads alike in this take the same.

    digest: SHA-256 of the model file, in hexadecimal.
    context_tokens: context of one slot. slots: conversations at the same time.
    cache_type: numbers of the cache, such as `f16`. step_tokens: tokens of one decode step.
    gpu_layers: layers on each GPU, in their order; empty without one.
    build: the engine, as it names itself.
    cpu_experts: of how many layers, from the first, the routed experts stay in main memory.
    gpus: the GPUs that `gpu_layers` counts; empty without one.
    beside_bytes: of adapters and projector that are loaded with the model.
    """

    digest: str
    context_tokens: Tokens
    slots: int
    cache_type: str
    step_tokens: int
    gpu_layers: tuple[int, ...]
    build: str
    cpu_experts: int = 0
    gpus: tuple[str, ...] = ()
    beside_bytes: Bytes = Bytes(0)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one load took. devices: bytes on each, by name; main memory is `ram`.

    measured_at: seconds since the epoch.
    """

    devices: Mapping[str, Bytes]
    measured_at: Seconds


@dataclass(frozen=True, slots=True)
class Figure:
    """What a run takes, as its source has it. devices: as in Measurement."""

    run: MeasuredRun
    devices: Mapping[str, Bytes]
    source: FigureSource = FigureSource.MEASURED


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a load would take besides weights, as the engine says.

    cache: of all layers, states included. working: intermediate results, by device.
    """

    cache: Bytes
    working: Mapping[str, Bytes]
