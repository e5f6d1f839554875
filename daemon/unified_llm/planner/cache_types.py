"""The number formats in which keys and values may be kept."""

from dataclasses import dataclass
from typing import Final

from unified_llm.domain.units import Bytes


@dataclass(frozen=True, slots=True)
class CacheType:
    """A block of `items` numbers takes `size` bytes; a row holds whole blocks."""

    name: str
    items: int
    size: int

    def row_bytes(self, width: int) -> Bytes:
        """Bytes of `width` numbers, the last block filled up."""
        return Bytes(-(-width // self.items) * self.size)


# Those that llama.cpp's `common/arg.cpp` offers for `--cache-type-k`.
CACHE_TYPES: Final = {
    each.name: each
    for each in (
        CacheType("f32", 1, 4),
        CacheType("f16", 1, 2),
        CacheType("bf16", 1, 2),
        CacheType("q8_0", 32, 34),
        CacheType("q5_1", 32, 24),
        CacheType("q5_0", 32, 22),
        CacheType("q4_1", 32, 20),
        CacheType("q4_0", 32, 18),
        CacheType("iq4_nl", 32, 18),
    )
}
F16: Final = CACHE_TYPES["f16"]
Q8_0: Final = CACHE_TYPES["q8_0"]
