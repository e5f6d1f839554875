"""Where a model's parts go when it is loaded."""

from dataclasses import dataclass

from unified_llm.domain.units import Bytes, Tokens


@dataclass(frozen=True, slots=True)
class Placement:
    """What a load is given.

    context_tokens: context of one slot.
    slots: sequences decoded together.
    threads: CPU threads; None for one per physical core the worker may use.
    ram_bytes: main memory set aside for it.
    """

    context_tokens: Tokens
    slots: int
    threads: int | None
    ram_bytes: Bytes
