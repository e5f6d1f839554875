"""The synthetic models of `tests.bench.estimate`: one of each kind of memory llama.cpp has."""

from dataclasses import dataclass

from tests.synthetic_models import Dimensions, SyntheticModel, Value

_RMS = "attention.layer_norm_rms_epsilon"
_SSM_F32 = frozenset({"ssm_conv1d", "ssm_a", "ssm_d", "shortconv.conv", "ssm_norm", "gate_inp"})
_CONTEXT = 131_072


@dataclass(frozen=True)
class Transformer:
    """What most architectures share. head: key and value length."""

    layers: int = 4
    embedding: int = 1024
    heads: int = 16
    kv_heads: int = 4
    head: int = 64
    feed_forward: int = 2816
    vocabulary: int = 32_000

    def keys(self) -> dict[str, Value]:
        return {
            "block_count": self.layers,
            "context_length": _CONTEXT,
            "embedding_length": self.embedding,
            "feed_forward_length": self.feed_forward,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head,
            "attention.value_length": self.head,
            "rope.dimension_count": self.head,
            _RMS: 1e-5,
            "vocab_size": self.vocabulary,
        }

    def ends(self, *, tied: bool = False) -> dict[str, Dimensions]:
        table = (self.embedding, self.vocabulary)
        ends: dict[str, Dimensions] = {
            "token_embd.weight": table,
            "output_norm.weight": (self.embedding,),
        }
        return ends if tied else {**ends, "output.weight": table}

    def attention(self, layer: int, *, norms: bool = False) -> dict[str, Dimensions]:
        b, e = f"blk.{layer}.", self.embedding
        found: dict[str, Dimensions] = {
            f"{b}attn_norm.weight": (e,),
            f"{b}attn_q.weight": (e, self.heads * self.head),
            f"{b}attn_k.weight": (e, self.kv_heads * self.head),
            f"{b}attn_v.weight": (e, self.kv_heads * self.head),
            f"{b}attn_output.weight": (self.heads * self.head, e),
        }
        if norms:
            found |= {f"{b}attn_{kind}_norm.weight": (self.head,) for kind in "qk"}
        return found

    def dense(self, layer: int, *, norm: bool = True) -> dict[str, Dimensions]:
        b, e, f = f"blk.{layer}.", self.embedding, self.feed_forward
        found: dict[str, Dimensions] = {
            f"{b}ffn_gate.weight": (e, f),
            f"{b}ffn_down.weight": (f, e),
            f"{b}ffn_up.weight": (e, f),
        }
        return {**found, f"{b}ffn_norm.weight": (e,)} if norm else found

    def experts(self, layer: int, count: int, width: int) -> dict[str, Dimensions]:
        b, e = f"blk.{layer}.", self.embedding
        return {
            f"{b}ffn_norm.weight": (e,),
            f"{b}ffn_gate_inp.weight": (e, count),
            f"{b}ffn_gate_exps.weight": (e, width, count),
            f"{b}ffn_down_exps.weight": (width, e, count),
            f"{b}ffn_up_exps.weight": (e, width, count),
        }

    def each(self, *parts: dict[str, Dimensions]) -> dict[str, Dimensions]:
        found: dict[str, Dimensions] = {}
        for part in parts:
            found |= part
        return found


def dense_llama(matrices: str = "F16") -> SyntheticModel:
    t = Transformer(kv_heads=16)
    layers = [t.attention(i) | t.dense(i) for i in range(t.layers)]
    name = f"llama-dense-{matrices.lower()}"
    return _model(name, "llama", t, t.each(t.ends(), *layers), matrices=matrices)


def grouped_llama() -> SyntheticModel:
    t = Transformer(layers=8, embedding=2048, heads=32, kv_heads=8, feed_forward=8192)
    t = Transformer(**{**t.__dict__, "vocabulary": 128_256})
    layers = [t.attention(i) | t.dense(i) for i in range(t.layers)]
    return _model("llama-gqa", "llama", t, t.each(t.ends(tied=True), *layers))


def mixtral() -> SyntheticModel:
    t = Transformer()
    layers = [t.attention(i) | t.experts(i, 8, t.feed_forward) for i in range(t.layers)]
    keys: dict[str, Value] = {"expert_count": 8, "expert_used_count": 2}
    return _model("mixtral", "llama", t, t.each(t.ends(), *layers), keys)


def qwen2() -> SyntheticModel:
    t = Transformer(vocabulary=151_936)
    layers = [
        t.attention(i)
        | t.dense(i)
        | {
            f"blk.{i}.attn_{k}.bias": ((t.heads if k == "q" else t.kv_heads) * t.head,)
            for k in "qkv"
        }
        for i in range(t.layers)
    ]
    return _model("qwen2", "qwen2", t, t.each(t.ends(), *layers))


def qwen3moe() -> SyntheticModel:
    t = Transformer(head=128, heads=16, kv_heads=4)
    layers = [t.attention(i, norms=True) | t.experts(i, 32, 384) for i in range(t.layers)]
    keys: dict[str, Value] = {
        "expert_count": 32,
        "expert_used_count": 8,
        "expert_feed_forward_length": 384,
    }
    return _model("qwen3moe", "qwen3moe", t, t.each(t.ends(), *layers), keys)


def gemma2() -> SyntheticModel:
    return _gemma("gemma2", "gemma2", 4, {"attention.sliding_window": 1024}, norms=False)


def gemma3() -> SyntheticModel:
    return _gemma("gemma3", "gemma3", 12, {"attention.sliding_window": 512}, norms=True)


def _gemma(
    name: str, architecture: str, layers: int, keys: dict[str, Value], *, norms: bool
) -> SyntheticModel:
    t = Transformer(layers=layers, heads=8, kv_heads=2, head=128, vocabulary=64_000)
    parts = [
        t.attention(i, norms=norms)
        | t.dense(i)
        | {
            f"blk.{i}.post_attention_norm.weight": (t.embedding,),
            f"blk.{i}.post_ffw_norm.weight": (t.embedding,),
        }
        for i in range(t.layers)
    ]
    return _model(name, architecture, t, t.each(t.ends(tied=True), *parts), keys)


def phi3() -> SyntheticModel:
    t = Transformer(kv_heads=16)
    parts: list[dict[str, Dimensions]] = []
    for i in range(t.layers):
        b = f"blk.{i}."
        parts.append(
            {
                f"{b}attn_norm.weight": (t.embedding,),
                f"{b}attn_qkv.weight": (t.embedding, 3 * t.embedding),
                f"{b}attn_output.weight": (t.embedding, t.embedding),
                f"{b}ffn_norm.weight": (t.embedding,),
                f"{b}ffn_down.weight": (t.feed_forward, t.embedding),
                f"{b}ffn_up.weight": (t.embedding, 2 * t.feed_forward),
            }
        )
    keys: dict[str, Value] = {"attention.sliding_window": 2047}
    return _model("phi3", "phi3", t, t.each(t.ends(), *parts), keys)


def gpt_oss() -> SyntheticModel:
    t = Transformer(heads=16, kv_heads=4)
    experts, width = 16, 1024
    parts = []
    for i in range(t.layers):
        b = f"blk.{i}."
        mixture = t.experts(i, experts, width)
        del mixture[f"{b}ffn_norm.weight"]
        biases: dict[str, Dimensions] = {
            f"{b}post_attention_norm.weight": (t.embedding,),
            f"{b}attn_q.bias": (t.heads * t.head,),
            f"{b}attn_k.bias": (t.kv_heads * t.head,),
            f"{b}attn_v.bias": (t.kv_heads * t.head,),
            f"{b}attn_output.bias": (t.embedding,),
            f"{b}attn_sinks.weight": (t.heads,),
            f"{b}ffn_gate_inp.bias": (experts,),
            f"{b}ffn_gate_exps.bias": (width, experts),
            f"{b}ffn_down_exps.bias": (t.embedding, experts),
            f"{b}ffn_up_exps.bias": (width, experts),
        }
        parts.append(t.attention(i) | mixture | biases)
    keys: dict[str, Value] = {
        "expert_count": experts,
        "expert_used_count": 4,
        "expert_feed_forward_length": width,
        "attention.sliding_window": 128,
    }
    kept = frozenset({".bias"})
    return _model("gpt-oss", "gpt-oss", t, t.each(t.ends(), *parts), keys, kept_f32=kept)


def deepseek2() -> SyntheticModel:
    t = Transformer(layers=5, heads=16, kv_heads=1)
    rank, rope, nope, value = 512, 64, 128, 128
    experts, width = 16, 384
    parts = []
    for i in range(t.layers):
        b, e = f"blk.{i}.", t.embedding
        mixer: dict[str, Dimensions] = {
            f"{b}attn_norm.weight": (e,),
            f"{b}attn_q_a_norm.weight": (384,),
            f"{b}attn_kv_a_norm.weight": (rank,),
            f"{b}attn_q_a.weight": (e, 384),
            f"{b}attn_q_b.weight": (384, t.heads * (nope + rope)),
            f"{b}attn_kv_a_mqa.weight": (e, rank + rope),
            f"{b}attn_k_b.weight": (nope, rank, t.heads),
            f"{b}attn_v_b.weight": (rank, value, t.heads),
            f"{b}attn_output.weight": (t.heads * value, e),
        }
        shared: dict[str, Dimensions] = {
            f"{b}ffn_gate_shexp.weight": (e, width),
            f"{b}ffn_down_shexp.weight": (width, e),
            f"{b}ffn_up_shexp.weight": (e, width),
        }
        feed = t.dense(i) if i == 0 else t.experts(i, experts, width) | shared
        parts.append(mixer | feed)
    keys: dict[str, Value] = {
        "attention.key_length": rank + rope,
        "attention.value_length": rank,
        "attention.key_length_mla": nope + rope,
        "attention.value_length_mla": value,
        "attention.q_lora_rank": 384,
        "attention.kv_lora_rank": rank,
        "rope.dimension_count": rope,
        "leading_dense_block_count": 1,
        "expert_count": experts,
        "expert_used_count": 4,
        "expert_shared_count": 1,
        "expert_feed_forward_length": width,
    }
    return _model("deepseek2-mla", "deepseek2", t, t.each(t.ends(), *parts), keys)


@dataclass(frozen=True)
class Mixer:
    """A state-space mixer's shape."""

    kernel: int = 4
    inner: int = 2048
    state: int = 16
    rank: int = 64
    groups: int = 0

    def keys(self) -> dict[str, Value]:
        return {
            "ssm.conv_kernel": self.kernel,
            "ssm.inner_size": self.inner,
            "ssm.state_size": self.state,
            "ssm.time_step_rank": self.rank,
            "ssm.group_count": self.groups,
        }

    def first(self, layer: int, embedding: int, *, norms: bool = False) -> dict[str, Dimensions]:
        """Mamba's."""
        b = f"blk.{layer}."
        found: dict[str, Dimensions] = {
            f"{b}attn_norm.weight": (embedding,),
            f"{b}ssm_in.weight": (embedding, 2 * self.inner),
            f"{b}ssm_conv1d.weight": (self.kernel, self.inner),
            f"{b}ssm_conv1d.bias": (self.inner,),
            f"{b}ssm_x.weight": (self.inner, self.rank + 2 * self.state),
            f"{b}ssm_dt.weight": (self.rank, self.inner),
            f"{b}ssm_dt.bias": (self.inner,),
            f"{b}ssm_a": (self.state, self.inner),
            f"{b}ssm_d": (self.inner,),
            f"{b}ssm_out.weight": (self.inner, embedding),
        }
        if norms:
            found |= {
                f"{b}ssm_dt_norm.weight": (self.rank,),
                f"{b}ssm_b_norm.weight": (self.state,),
                f"{b}ssm_c_norm.weight": (self.state,),
            }
        return found

    def second(self, layer: int, embedding: int) -> dict[str, Dimensions]:
        """Mamba-2's."""
        b, convolved = f"blk.{layer}.", self.inner + 2 * self.groups * self.state
        return {
            f"{b}attn_norm.weight": (embedding,),
            f"{b}ssm_in.weight": (embedding, self.inner + convolved + self.rank),
            f"{b}ssm_conv1d.weight": (self.kernel, convolved),
            f"{b}ssm_conv1d.bias": (convolved,),
            f"{b}ssm_dt.bias": (self.rank,),
            f"{b}ssm_a": (1, self.rank),
            f"{b}ssm_d": (1, self.rank),
            f"{b}ssm_norm.weight": (self.inner // self.groups, self.groups),
            f"{b}ssm_out.weight": (self.inner, embedding),
        }


def mamba() -> SyntheticModel:
    t, m = Transformer(layers=6, heads=0, kv_heads=0, feed_forward=0), Mixer()
    parts = [m.first(i, t.embedding) for i in range(t.layers)]
    return _recurrent("mamba", "mamba", t, t.each(t.ends(tied=True), *parts), m.keys())


def mamba2() -> SyntheticModel:
    t = Transformer(layers=6, heads=0, kv_heads=0, feed_forward=0)
    m = Mixer(state=128, rank=32, groups=1)
    parts = [m.second(i, t.embedding) for i in range(t.layers)]
    return _recurrent("mamba2", "mamba2", t, t.each(t.ends(tied=True), *parts), m.keys())


def jamba() -> SyntheticModel:
    t, m = Transformer(layers=8), Mixer()
    attention = {4}
    parts = [
        (t.attention(i) if i in attention else m.first(i, t.embedding, norms=True)) | t.dense(i)
        for i in range(t.layers)
    ]
    keys = m.keys() | {
        "attention.head_count_kv": [t.kv_heads if i in attention else 0 for i in range(t.layers)]
    }
    return _model("jamba", "jamba", t, t.each(t.ends(), *parts), keys, kept_f32=_SSM_F32)


def granite_hybrid() -> SyntheticModel:
    t, m = Transformer(layers=8), Mixer(state=128, rank=32, groups=1)
    attention = {3, 7}
    parts = [
        (t.attention(i) if i in attention else m.second(i, t.embedding)) | t.dense(i)
        for i in range(t.layers)
    ]
    keys = m.keys() | {
        "attention.head_count_kv": [t.kv_heads if i in attention else 0 for i in range(t.layers)]
    }
    tensors = t.each(t.ends(), *parts)
    return _model("granite-hybrid", "granitehybrid", t, tensors, keys, kept_f32=_SSM_F32)


def falcon_h1() -> SyntheticModel:
    t, m = Transformer(layers=6), Mixer(state=128, rank=32, groups=1, inner=2048)
    parts = []
    for i in range(t.layers):
        feed = t.dense(i, norm=False)
        feed[f"blk.{i}.ffn_norm"] = (t.embedding,)
        parts.append(t.attention(i) | m.second(i, t.embedding) | feed)
    tensors = t.each(t.ends(), *parts)
    return _model("falcon-h1", "falcon-h1", t, tensors, m.keys(), kept_f32=_SSM_F32)


def lfm2() -> SyntheticModel:
    t = Transformer(layers=6)
    attention = {2, 5}
    parts = []
    for i in range(t.layers):
        b = f"blk.{i}."
        short: dict[str, Dimensions] = {
            f"{b}attn_norm.weight": (t.embedding,),
            f"{b}shortconv.conv.weight": (3, t.embedding),
            f"{b}shortconv.in_proj.weight": (t.embedding, 3 * t.embedding),
            f"{b}shortconv.out_proj.weight": (t.embedding, t.embedding),
        }
        mixer = t.attention(i, norms=True) if i in attention else short
        parts.append(mixer | t.dense(i))
    keys: dict[str, Value] = {
        "shortconv.l_cache": 3,
        "attention.head_count_kv": [t.kv_heads if i in attention else 0 for i in range(t.layers)],
    }
    ends = t.ends(tied=True)
    ends["token_embd_norm.weight"] = ends.pop("output_norm.weight")
    return _model("lfm2", "lfm2", t, t.each(ends, *parts), keys, kept_f32=_SSM_F32)


def bert() -> SyntheticModel:
    t = Transformer(layers=6, embedding=768, heads=12, kv_heads=12, feed_forward=3072)
    e, context = t.embedding, 512
    parts: list[dict[str, Dimensions]] = [
        {
            "token_embd.weight": (e, t.vocabulary),
            "position_embd.weight": (e, context),
            "token_types.weight": (e, 2),
            "token_embd_norm.weight": (e,),
            "token_embd_norm.bias": (e,),
        }
    ]
    for i in range(t.layers):
        b = f"blk.{i}."
        matrices: dict[str, Dimensions] = {
            f"{b}attn_{kind}.weight": (e, e) for kind in ("q", "k", "v", "output")
        }
        norms: dict[str, Dimensions] = {
            f"{b}{place}_norm.{kind}": (e,)
            for place in ("attn_output", "layer_output")
            for kind in ("weight", "bias")
        }
        feed: dict[str, Dimensions] = {
            f"{b}ffn_up.weight": (e, t.feed_forward),
            f"{b}ffn_down.weight": (t.feed_forward, e),
        }
        parts.append(matrices | norms | feed)
    keys: dict[str, Value] = {
        "context_length": context,
        "attention.layer_norm_epsilon": 1e-12,
        "attention.causal": False,
        "pooling_type": 1,
    }
    kept = frozenset({"position_embd", "token_types"})
    return _model("bert", "bert", t, t.each(*parts), keys, kept_f32=kept)


def _model(
    name: str,
    architecture: str,
    shape: Transformer,
    tensors: dict[str, Dimensions],
    keys: dict[str, Value] | None = None,
    *,
    matrices: str = "F16",
    kept_f32: frozenset[str] = _SSM_F32,
) -> SyntheticModel:
    return SyntheticModel(
        name,
        architecture,
        shape.keys() | (keys or {}),
        tensors,
        vocabulary=shape.vocabulary,
        matrices=matrices,
        kept_f32=kept_f32,
    )


def _recurrent(
    name: str,
    architecture: str,
    shape: Transformer,
    tensors: dict[str, Dimensions],
    keys: dict[str, Value],
) -> SyntheticModel:
    model = _model(name, architecture, shape, tensors, keys)
    kept = {k: v for k, v in model.keys.items() if k.partition(".")[0] not in ("attention", "rope")}
    kept[_RMS] = 1e-5
    return SyntheticModel(name, architecture, kept, tensors, shape.vocabulary, kept_f32=_SSM_F32)


def synthetic_models() -> tuple[SyntheticModel, ...]:
    """All of them, small enough to be really allocated."""
    return (
        dense_llama(), dense_llama("Q8_0"), dense_llama("Q4_0"), grouped_llama(), mixtral(),
        qwen2(), qwen3moe(), gemma2(), gemma3(), phi3(), gpt_oss(), deepseek2(), mamba(), mamba2(),
        jamba(), granite_hybrid(), falcon_h1(), lfm2(), bert(),
    )  # fmt: skip
