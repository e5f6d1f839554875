"""Models whose size a test can name."""

from unified_llm.domain.profile import GraphWidths, LayerProfile, ModelProfile
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner.estimate import estimate_memory
from unified_llm.planner.run_shape import RunShape

LAYERS = 4


def sized_profile(total: int, run: RunShape, *, cached: int = 0) -> ModelProfile:
    """A model that takes exactly `total` bytes of main memory when run like this.

    cached: bytes of keys and values in that, a whole number of KiB for each layer and cell.
    """
    width = cached // LAYERS // run.cells(None) // run.slots // 2
    empty = _profile(0, width)
    rest = total - estimate_memory(empty, run).ram.total
    assert rest >= 0, "even without weights it takes more"
    return _profile(rest, width)


def _profile(weights: int, width: int) -> ModelProfile:
    layer = LayerProfile(Bytes(weights // LAYERS), key_width=width)
    return ModelProfile(
        architecture="llama",
        context_trained=Tokens(4096),
        vocabulary_size=0,
        widths=GraphWidths(embedding=0),
        layers=(layer,) * LAYERS,
        input_bytes=Bytes(weights % LAYERS),
        output_bytes=Bytes(0),
        has_logits=False,
    )
