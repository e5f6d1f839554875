"""What adapters and a projector add to the memory that a model takes.

Source: the pinned llama.cpp, `src/llama-adapter.cpp`: each pair lies where the weight lies that it
changes.
"""

from collections.abc import Iterable
from dataclasses import replace

from unified_llm.domain.models import Adapter, Projector
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


def with_projector(profile: ModelProfile, projector: Projector) -> ModelProfile:
    """The profile of the model with that projector, which stays in main memory."""
    return replace(
        profile,
        input_bytes=Bytes(profile.input_bytes + projector.size_bytes),
        assumptions=(
            *profile.assumptions,
            "What looking at an image takes beside the projector's weights is not counted.",
        ),
    )
