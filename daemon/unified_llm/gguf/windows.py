"""Which layers look at a sliding window only, and how wide it is."""

from typing import Final

from unified_llm.gguf import architectures
from unified_llm.gguf.architectures import WindowRule
from unified_llm.gguf.metadata import Array, Metadata

_MAX_WINDOW: Final = 2**30


def layer_windows(metadata: Metadata, architecture: str, layers: int) -> tuple[int | None, ...]:
    """For each layer the tokens it looks back at; None for all of them.

    A window that llama.cpp does not use, such as Phi-3's, is none. Raises NotAModel.
    """
    whole = (None,) * layers
    rule = architectures.WINDOWS.get(architecture)
    if rule is None or not rule.applies(layers):
        return whole
    key = f"{architecture}.attention.sliding_window"
    window = metadata.unsigned(key, 0, _MAX_WINDOW)
    if window is None:
        window = rule.default
    if not window:
        return whole
    window = rule.size or window
    windowed = _windowed(metadata, f"{key}_pattern", rule, layers)
    return tuple(window if is_windowed else None for is_windowed in windowed)


def _windowed(metadata: Metadata, key: str, rule: WindowRule, layers: int) -> tuple[bool, ...]:
    entry = metadata.entries.get(key)
    if isinstance(entry, Array):
        listed = metadata.per_layer(key, layers, 0, 1) or ()
        return tuple(map(bool, listed))
    period = metadata.unsigned(key, 0, layers)
    return tuple(rule.has_window(index, period=period) for index in range(layers))
