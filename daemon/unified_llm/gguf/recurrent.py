"""Which layers keep a recurrent state, and how large it is.

Source: the pinned llama.cpp, `src/llama-hparams.cpp` (`n_embd_r`, `n_embd_s`) and the
`load_arch_hparams` of each architecture in `src/models/`.
"""

from typing import Final

from unified_llm.gguf import architectures
from unified_llm.gguf.metadata import Metadata

_MAX_WIDTH: Final = 2**24
_MAX_LENGTH: Final = 65_536
_MAX_HEADS: Final = 4096
_TOKEN_SHIFTS: Final = 2  # RWKV, unless the file says otherwise
_KDA_KERNEL: Final = 4


def recurrent_layers(
    metadata: Metadata, architecture: str, kv_heads: tuple[int, ...], trunk: int
) -> tuple[bool, ...]:
    """For each layer whether it keeps a state.

    kv_heads: of each layer. trunk: layers in use; those behind it are for speculation.
    Raises NotAModel.
    """
    layers = len(kv_heads)
    if architecture in architectures.RECURRENT | architectures.RECURRENT_EVERYWHERE:
        return (True,) * layers
    if architecture in architectures.RECURRENT_WITHOUT_KV_HEADS:
        return tuple(i < trunk and not heads for i, heads in enumerate(kv_heads))
    if architecture in architectures.RECURRENT_WITHOUT_FEED_FORWARD:
        widths = feed_forward_lengths(metadata, architecture, layers)
        return tuple(i < trunk and not kv_heads[i] and not widths[i] for i in range(layers))
    usual = architectures.RECURRENT_BY_INTERVAL.get(architecture)
    if usual is None:
        return (False,) * layers
    listed = metadata.per_layer(f"{architecture}.attention.recurrent_layers", layers, 0, 1)
    if listed is not None:
        return tuple(map(bool, listed))
    key = f"{architecture}.full_attention_interval"
    interval = metadata.unsigned(key, 1, _MAX_HEADS) or usual
    return tuple(i < trunk and (i + 1) % interval != 0 for i in range(layers))


def feed_forward_lengths(metadata: Metadata, architecture: str, layers: int) -> tuple[int, ...]:
    """Of each layer; 0 where the file does not say. Raises NotAModel."""
    key = f"{architecture}.feed_forward_length"
    return metadata.per_layer(key, layers, 0, _MAX_WIDTH) or (0,) * layers


def state_width(
    metadata: Metadata, architecture: str, *, embedding: int, heads: int, head_length: int
) -> int:
    """Numbers of state that one recurrent layer keeps for one sequence. Raises NotAModel.

    heads, head_length: of attention in the first layer; 0 if it has none.
    """

    def number(key: str, high: int = _MAX_WIDTH) -> int:
        return metadata.unsigned(f"{architecture}.{key}", 0, high) or 0

    if head := number("wkv.head_size", _MAX_LENGTH):
        return (number("token_shift_count", 64) or _TOKEN_SHIFTS) * embedding + embedding * head
    if taps := number("shortconv.l_cache", _MAX_LENGTH):
        return embedding * (taps - 1)
    kernel = number("ssm.conv_kernel", _MAX_LENGTH)
    if head := number("kda.head_dim", _MAX_LENGTH):
        inner = heads * head
        return 3 * ((kernel or _KDA_KERNEL) - 1) * inner + head * inner
    if architecture == "minimax-01":
        return head_length * head_length * heads
    inner, state = number("ssm.inner_size"), number("ssm.state_size", _MAX_LENGTH)
    groups = number("ssm.group_count", _MAX_HEADS)
    return max(kernel - 1, 0) * (inner + 2 * groups * state) + state * inner
