"""What loaded models really took, and under which circumstances the figure holds again."""

from collections.abc import Mapping
from dataclasses import dataclass

from unified_llm.domain.units import Bytes, Seconds, Tokens


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """All that decides what a model takes: two loads alike in this take the same.

    digest: SHA-256 of the model file, in hexadecimal.
    context_tokens: context of one slot. slots: conversations at the same time.
    cache_type: numbers of the cache, such as `f16`. step_tokens: tokens of one decode step.
    gpu_layers: layers on each GPU, in their order; empty without one.
    build: the engine, as it names itself.
    """

    digest: str
    context_tokens: Tokens
    slots: int
    cache_type: str
    step_tokens: int
    gpu_layers: tuple[int, ...]
    build: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one load took. devices: bytes on each, by name; main memory is `ram`.

    measured_at: seconds since the epoch.
    """

    devices: Mapping[str, Bytes]
    measured_at: Seconds
