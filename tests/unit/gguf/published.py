"""Headers with the numbers that publishers give for their models, and no weights to speak of."""

from dataclasses import dataclass, field
from typing import Any

from tests.unit.gguf.reading import header_of
from tests.unit.gguf.writing import Entry, ModelFile, Tensor
from unified_llm.domain.profile import ModelProfile


@dataclass(frozen=True)
class Published:
    """keys: without the architecture's prefix; an int is a u32, a list an array of them."""

    architecture: str
    layers: int
    embedding: int
    keys: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = (Tensor("token_embd.weight", (32, 32)),)

    def profile(self) -> ModelProfile:
        plain = {
            "block_count": self.layers,
            "embedding_length": self.embedding,
            "context_length": 131_072,
            **self.keys,
        }
        entries = [_entry(f"{self.architecture}.{key}", value) for key, value in plain.items()]
        general = [
            Entry("general.architecture", "string", self.architecture)
            if entry.key == "general.architecture"
            else entry
            for entry in ModelFile().entries
            if not str(entry.key).startswith("llama.")
        ]
        file = ModelFile(entries=(*general, *entries), tensors=self.tensors)
        return header_of(file.packed()).profile


def _entry(key: str, value: Any) -> Entry:
    if isinstance(value, list):
        return Entry(key, "array", value, "bool" if isinstance(value[0], bool) else "u32")
    return Entry(key, "u32", value)


def attention(heads: int, kv_heads: int | list[int], length: int) -> dict[str, Any]:
    """The keys of ordinary attention."""
    return {
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": length,
        "attention.value_length": length,
    }


def mamba(kernel: int, inner: int, state: int, groups: int = 0) -> dict[str, Any]:
    """The keys of a state-space mixer."""
    return {
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.group_count": groups,
    }


def mixture(experts: int, used: int) -> dict[str, Any]:
    """The keys of a mixture of experts."""
    return {"expert_count": experts, "expert_used_count": used}


_JAMBA_ATTENTION = [8 if layer % 8 == 4 else 0 for layer in range(32)]
_LFM2_ATTENTION = [8 if layer in {2, 5, 8, 10, 12, 14} else 0 for layer in range(16)]

LLAMA_3_8B = Published("llama", 32, 4096, attention(32, 8, 128))
MIXTRAL_8X7B = Published("llama", 32, 4096, attention(32, 8, 128) | mixture(8, 2))
QWEN3_30B_A3B = Published("qwen3moe", 48, 2048, attention(32, 4, 128) | mixture(128, 8))
GEMMA_2_9B = Published(
    "gemma2", 42, 3584, attention(16, 8, 256) | {"attention.sliding_window": 4096}
)
GEMMA_3_27B = Published(
    "gemma3", 62, 5376, attention(32, 16, 128) | {"attention.sliding_window": 1024}
)
GEMMA_3N_E4B = Published(
    "gemma3n",
    35,
    2048,
    attention(8, 2, 256)
    | {
        "attention.sliding_window": 512,
        "attention.sliding_window_pattern": [layer % 5 != 4 for layer in range(35)],
    },
)
PHI_3_MINI = Published("phi3", 32, 3072, attention(32, 32, 96) | {"attention.sliding_window": 2047})
COMMAND_R7B = Published(
    "cohere2", 32, 4096, attention(32, 8, 128) | {"attention.sliding_window": 4096}
)
GPT_OSS_20B = Published(
    "gpt-oss", 24, 2880, attention(64, 8, 64) | mixture(32, 4) | {"attention.sliding_window": 128}
)
LLAMA_4_SCOUT = Published("llama4", 48, 5120, attention(40, 8, 128) | mixture(16, 1))
DEEPSEEK_V2_LITE = Published(
    "deepseek2",
    27,
    2048,
    attention(16, 1, 576)
    | mixture(64, 6)
    | {
        "attention.value_length": 512,
        "attention.kv_lora_rank": 512,
        "attention.key_length_mla": 192,
        "attention.value_length_mla": 128,
    },
)
MAMBA_2_8B = Published("mamba", 64, 2560, mamba(4, 5120, 16))
JAMBA_V0_1 = Published(
    "jamba", 32, 4096, attention(32, _JAMBA_ATTENTION, 128) | mamba(4, 8192, 16) | mixture(16, 2)
)
FALCON_H1_1_5B = Published(
    "falcon-h1", 24, 2048, attention(8, 2, 128) | mamba(4, 3072, 256, groups=1)
)
LFM2_1_2B = Published(
    "lfm2", 16, 2048, attention(32, _LFM2_ATTENTION, 64) | {"shortconv.l_cache": 3}
)
QWEN3_NEXT_80B = Published(
    "qwen3next", 48, 2048, attention(16, 2, 256) | mamba(4, 4096, 128, groups=16) | mixture(512, 10)
)
RWKV7_2_9B = Published("rwkv7", 32, 2560, {"wkv.head_size": 64})
NEMOTRON_H_8B = Published(
    "nemotron_h",
    4,
    4096,
    attention(32, [0, 0, 8, 0], 128)
    | mamba(4, 8192, 128, groups=8)
    | {"feed_forward_length": [0, 21504, 0, 21504]},
)
BGE_LARGE = Published("bert", 24, 1024, attention(16, 16, 64))
