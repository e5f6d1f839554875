"""What adapters add to the memory that a model takes.

Source: the pinned llama.cpp, `src/llama-adapter.cpp`: each pair lies where the weight lies that it
changes.
"""

from collections.abc import Iterable
from dataclasses import replace

from unified_llm.domain.models import Adapter
from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Bytes


def with_adapters(profile: ModelProfile, adapters: Iterable[Adapter]) -> ModelProfile:
    """The profile of the model with these adapters of it."""
    for adapter in adapters:
        layers = tuple(
            replace(layer, weight_bytes=Bytes(layer.weight_bytes + more))
            for layer, more in zip(profile.layers, adapter.layer_bytes, strict=True)
        )
        output = Bytes(profile.output_bytes + adapter.other_bytes)
        profile = replace(profile, layers=layers, output_bytes=output)
    return profile
