"""Where a model's parts go when it is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass

from unified_llm.domain.devices import RAM, DeviceId
from unified_llm.domain.models import Speculation
from unified_llm.domain.units import Bytes, Tokens


@dataclass(frozen=True, slots=True)
class Placement:
    """What a load is given.

    context_tokens: context of one slot. slots: sequences decoded together.
    threads: CPU threads; None for one per physical core the worker may use.
    memory: set aside for it on each device that it uses.
    cache_type: how keys and values are kept.
    layers: how many the model has. gpus: those of the machine, in the engine's order; none if the
        model is not computed on any. gpu_layers: how many of its last layers each of them takes, in
        turn; the output goes with the last.
    cpu_experts: of how many layers, from the first, the routed experts stay in main memory.
    speculation: whether and how tokens are drafted.
    sacrifices: a sentence for each thing that is not as it was wished.
    """

    context_tokens: Tokens
    slots: int
    threads: int | None
    memory: Mapping[DeviceId, Bytes]
    cache_type: str = "f16"
    layers: int = 0
    gpus: tuple[DeviceId, ...] = ()
    gpu_layers: tuple[int, ...] = ()
    cpu_experts: int = 0
    speculation: Speculation = Speculation.OFF
    sacrifices: tuple[str, ...] = ()

    @property
    def ram_bytes(self) -> Bytes:
        """Main memory set aside for it."""
        return self.memory.get(RAM, Bytes(0))

    @property
    def offloaded(self) -> int:
        """Layers on any GPU."""
        return sum(self.gpu_layers)

    @property
    def quality(self) -> tuple[object, ...]:
        """What its user notices of it; the same for placements that differ in devices only."""
        return (
            self.context_tokens,
            self.slots,
            self.cache_type,
            self.offloaded,
            self.cpu_experts,
        )
