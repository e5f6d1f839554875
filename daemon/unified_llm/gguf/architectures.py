"""What the architecture's name says that no key of the header does.

Source: the pinned llama.cpp, `src/llama-arch.cpp` (names, recurrent and hybrid ones),
`src/llama-model.cpp` (`create_memory`: who has which cache) and `src/models/*.cpp` (windows).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

ENCODERS: Final = frozenset({
    "bert", "dream", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llada",
    "llada-moe", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1",
    "wavtokenizer-dec",
})  # fmt: skip
"""They get no memory between two calls: a text, or all of a diffusion, is seen at once."""

WITHOUT_LOGITS: Final = ENCODERS - {"dream", "llada", "llada-moe", "rnd1"}
"""They end in embeddings."""

RECURRENT: Final = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
"""Every layer keeps a state, and none a cache."""

RECURRENT_WITHOUT_KV_HEADS: Final = frozenset({
    "bailingmoe3", "granitehybrid", "jamba", "kimi-k3", "kimi-linear", "lfm2", "lfm2moe", "plamo2",
})  # fmt: skip
"""A layer keeps a state where it has no key-value heads, and a cache elsewhere."""

RECURRENT_BY_INTERVAL: Final = {
    "minimax-01": 8, "qwen35": 4, "qwen35moe": 4, "qwen3next": 4,
}  # fmt: skip
"""Each n-th layer keeps a cache, the others a state, unless the file lists them."""

RECURRENT_WITHOUT_FEED_FORWARD: Final = frozenset({"nemotron_h", "nemotron_h_moe"})
"""A layer either mixes or feeds forward; one that mixes without key-value heads keeps a state."""

RECURRENT_EVERYWHERE: Final = frozenset({"falcon-h1"})
"""Each layer keeps both a state and a cache."""

UNCOUNTED_CACHES: Final = frozenset({
    "deepseek32", "deepseek4", "dots3note", "glm-dsa", "glm5-next", "hy_v4", "minimax-m3",
    "qwen4exp",
})  # fmt: skip
"""They keep index keys or compressed caches beside the usual one, which is all we count."""

CACHED_FROM_START: Final = {"gemma3n": 20}
"""Layers after these read the caches of earlier ones (`src/models/gemma3n.cpp`)."""

OTHERS: Final = frozenset({
    "afmoe", "apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bitnet",
    "bloom", "chameleon", "chatglm", "codeshell", "cogvlm", "cohere2", "cohere2moe", "command-r",
    "dbrx", "deci", "deepseek", "deepseek2", "deepseek2-ocr", "dots1", "ernie4_5", "ernie4_5-moe",
    "exaone", "exaone-moe", "exaone4", "falcon", "gemma", "gemma2", "gemma3", "gemma3n", "gemma4",
    "glm4", "glm4moe", "gpt-oss", "gpt2", "gptj", "gptneox", "granite", "granite_swa", "granitemoe",
    "graniteswitch", "grok", "grovemoe", "hrm_text", "hunyuan-dense", "hunyuan-moe", "hunyuan_vl",
    "hy_v3", "internlm2", "jais", "jais2", "laguna", "llama", "llama-embed", "llama4", "maincoder",
    "maple", "mellum", "mimo2", "minicpm", "minicpm3", "minimax-m2", "mistral3", "mistral4", "mpt",
    "muse-glimmer", "nanbeige", "nemotron", "olmo", "olmo2", "olmoe", "openelm", "orion",
    "paddleocr", "pangu-embedded", "phi2", "phi3", "phimoe", "plamo", "plamo3", "plm", "qwen",
    "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3tts", "qwen3vl", "qwen3vlmoe",
    "refact", "seed_oss", "smallthinker", "smollm3", "spark2_5", "stablelm", "starcoder",
    "starcoder2", "step35", "t5", "t5encoder", "talkie", "xverse",
})  # fmt: skip
"""One cache in the usual way, whole or with windows."""

KNOWN: Final = (
    ENCODERS
    | RECURRENT
    | RECURRENT_WITHOUT_KV_HEADS
    | frozenset(RECURRENT_BY_INTERVAL)
    | RECURRENT_WITHOUT_FEED_FORWARD
    | RECURRENT_EVERYWHERE
    | UNCOUNTED_CACHES
    | OTHERS
)


@dataclass(frozen=True, slots=True)
class WindowRule:
    """Which layers look at a sliding window only, where the file does not say.

    period: one layer in so many sees the whole context; 1 if all do, and 0 if none does.
    whole_first: that layer is the first of its group, not the last.
    default: tokens of the window if the file names none; None if it then has none.
    size: tokens of the window whatever number above 0 the file names.
    applies: whether a model of so many layers has windows at all.
    """

    period: int
    whole_first: bool = False
    default: int | None = None
    size: int | None = None
    applies: Callable[[int], bool] = lambda layers: layers > 0

    def has_window(self, layer: int, *, period: int | None = None) -> bool:
        """Whether `layer`, counted from 0, looks at a window (`llama_hparams::set_swa_pattern`).

        period: what the file says; None for the rule's own.
        """
        period = self.period if period is None else period
        if period == 0:
            return True
        place = layer % period
        return place != 0 if self.whole_first else place < period - 1


# Those with period 1 list their layers in the file.
WINDOWS: Final = {
    "afmoe": WindowRule(4),
    "cohere2": WindowRule(4),
    "cohere2moe": WindowRule(4, whole_first=True),
    "exaone-moe": WindowRule(4, default=128),
    "exaone4": WindowRule(4, default=4096, applies=lambda layers: layers == 64),
    "gemma2": WindowRule(2, default=4096),
    "gemma3": WindowRule(6),
    "gemma3n": WindowRule(5),
    "gemma4": WindowRule(1),
    "gpt-oss": WindowRule(2),
    "granite_swa": WindowRule(1),
    "laguna": WindowRule(4, whole_first=True),
    "lfm2": WindowRule(0),
    "llama4": WindowRule(4, default=8192, size=8192),
    "maple": WindowRule(1),
    "mellum": WindowRule(4),
    "mimo2": WindowRule(1),
    "muse-glimmer": WindowRule(4),
    "olmo2": WindowRule(4),
    "plamo3": WindowRule(8),
    "smallthinker": WindowRule(4, whole_first=True, size=4096),
    "spark2_5": WindowRule(1),
    "step35": WindowRule(1),
}
