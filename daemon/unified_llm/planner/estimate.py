"""How much main memory a loaded model takes, from what its header says."""

from typing import Final

from unified_llm.domain.units import Bytes, Tokens

_MIB: Final = 1024 * 1024
_F16_BYTES: Final = 2

# A compute buffer of 98.25 MiB was measured for SmolLM2-135M (512 tokens of a micro-batch times
# 49,152 logits of 4 bytes, and little else), and 60 MiB for a worker that has loaded nothing.
COMPUTE_BYTES: Final = Bytes(128 * _MIB)
PROCESS_BYTES: Final = Bytes(64 * _MIB)

# For a header that does not tell: what an 8-billion model with grouped attention takes in f16
# (32 layers, 8 heads of 128 for keys and values). Smaller models take less.
ASSUMED_KV_BYTES_PER_TOKEN: Final = Bytes(128 * 1024)


def kv_bytes_per_token(
    layers: int,
    kv_heads: int,
    key_length: int,
    value_length: int,
    *,
    element_bytes: int = _F16_BYTES,
) -> Bytes:
    """KV cache of one token: for each layer and head one key and one value.

    Source: llama.cpp `llama_kv_cache`; SmolLM2-135M (30, 3, 64, 64) gives 22.5 KiB, and the
    180 MiB that llama.cpp prints for 8192 tokens.
    """
    return Bytes(layers * kv_heads * (key_length + value_length) * element_bytes)


def expected_bytes(
    file_bytes: Bytes, kv_per_token: Bytes | None, context_tokens: Tokens, slots: int
) -> Bytes:
    """Weights + KV cache + compute buffer + process.

    Weights are the file: its tensors fill it but for a header, and are kept as they are. Each slot
    has a whole context of its own. kv_per_token: None if the header does not tell.
    """
    per_token = ASSUMED_KV_BYTES_PER_TOKEN if kv_per_token is None else kv_per_token
    cache = per_token * context_tokens * slots
    return Bytes(file_bytes + cache + COMPUTE_BYTES + PROCESS_BYTES)
