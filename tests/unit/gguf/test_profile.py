"""What the headers of well-known models say about their memory; all figures as published."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.gguf import published as p
from tests.unit.gguf.reading import header_of
from tests.unit.gguf.writing import Entry, ModelFile, Tensor
from unified_llm.domain.profile import Purpose
from unified_llm.gguf.architectures import KNOWN, WINDOWS
from unified_llm.gguf.reader import NotAModel


def windows(model: p.Published) -> list[int | None]:
    return [layer.window for layer in model.profile().layers]


@pytest.mark.parametrize(
    ("model", "numbers"),
    [
        (p.LLAMA_3_8B, 32 * 2 * 8 * 128),
        (p.MIXTRAL_8X7B, 32 * 2 * 8 * 128),
        (p.QWEN3_30B_A3B, 48 * 2 * 4 * 128),
        (p.GPT_OSS_20B, 24 * 2 * 8 * 64),
        (p.DEEPSEEK_V2_LITE, 27 * 576),
        (p.JAMBA_V0_1, 4 * 2 * 8 * 128),
        (p.FALCON_H1_1_5B, 24 * 2 * 2 * 128),
        (p.LFM2_1_2B, 6 * 2 * 8 * 64),
        (p.QWEN3_NEXT_80B, 12 * 2 * 2 * 256),
        (p.GEMMA_3N_E4B, 20 * 2 * 2 * 256),
        (p.NEMOTRON_H_8B, 2 * 8 * 128),
        (p.MAMBA_2_8B, 0),
        (p.RWKV7_2_9B, 0),
        (p.BGE_LARGE, 0),
    ],
    ids=lambda value: value.architecture if isinstance(value, p.Published) else "",
)
def test_a_token_leaves_so_many_numbers_in_the_cache(model: p.Published, numbers: int) -> None:
    layers = model.profile().layers
    assert sum(layer.key_width + layer.value_width for layer in layers) == numbers


@pytest.mark.parametrize(
    ("model", "layers", "numbers"),
    [
        (p.MAMBA_2_8B, 64, 3 * 5120 + 16 * 5120),
        (p.JAMBA_V0_1, 28, 3 * 8192 + 16 * 8192),
        (p.FALCON_H1_1_5B, 24, 3 * (3072 + 2 * 256) + 256 * 3072),
        (p.LFM2_1_2B, 10, 2 * 2048),
        (p.QWEN3_NEXT_80B, 36, 3 * 8192 + 128 * 4096),
        (p.RWKV7_2_9B, 32, 2 * 2560 + 64 * 2560),
        (p.NEMOTRON_H_8B, 1, 3 * (8192 + 2 * 8 * 128) + 128 * 8192),
        (p.LLAMA_3_8B, 0, 0),
    ],
    ids=lambda value: value.architecture if isinstance(value, p.Published) else "",
)
def test_a_recurrent_layer_keeps_so_large_a_state(
    model: p.Published, layers: int, numbers: int
) -> None:
    states = [layer.state_width for layer in model.profile().layers if layer.state_width]
    assert states == [numbers] * layers


def test_every_second_layer_of_gemma_2_has_a_window() -> None:
    assert windows(p.GEMMA_2_9B) == [4096, None] * 21


def test_every_sixth_layer_of_gemma_3_sees_the_whole_context() -> None:
    found = windows(p.GEMMA_3_27B)
    assert [i for i, window in enumerate(found) if window is None] == list(range(5, 62, 6))
    assert set(found) == {1024, None}


def test_the_file_may_list_the_layers_with_a_window() -> None:
    assert windows(p.GEMMA_3N_E4B)[:6] == [512, 512, 512, 512, None, 512]


def test_the_chunks_of_llama_4_are_windows_of_8192_tokens() -> None:
    assert windows(p.LLAMA_4_SCOUT)[:4] == [8192, 8192, 8192, None]


def test_three_of_four_layers_of_command_r7b_have_a_window() -> None:
    assert windows(p.COMMAND_R7B)[:4] == [4096, 4096, 4096, None]


def test_llama_cpp_does_not_use_the_window_of_phi_3() -> None:
    assert set(windows(p.PHI_3_MINI)) == {None}


def test_mla_without_its_keys_is_cached_as_ordinary_attention() -> None:
    keys = {k: v for k, v in p.DEEPSEEK_V2_LITE.keys.items() if not k.endswith("_mla")}
    layer = p.Published("deepseek2", 27, 2048, keys).profile().layers[0]
    assert (layer.key_width, layer.value_width) == (576, 512)


def test_an_encoder_ends_in_embeddings() -> None:
    profile = p.BGE_LARGE.profile()
    assert not profile.has_logits
    assert profile.tied_bytes == 0


def test_weights_are_counted_where_they_lie() -> None:
    tensors = (
        Tensor("token_embd.weight", (32, 100)),
        Tensor("blk.0.attn_q.weight", (32, 32)),
        Tensor("blk.0.ffn_up_exps.weight", (32, 16, 4)),
        Tensor("blk.1.attn_norm.weight", (32,)),
        Tensor("output_norm.weight", (32,)),
        Tensor("output.weight", (32, 100)),
    )
    profile = p.Published("llama", 2, 32, p.attention(4, 4, 8), tensors).profile()
    first, second = profile.layers
    assert (first.weight_bytes, first.expert_bytes) == (4 * (32 * 32 + 32 * 64), 4 * 32 * 64)
    assert (second.weight_bytes, second.expert_bytes) == (4 * 32, 0)
    assert profile.input_bytes == 4 * 3200
    assert profile.output_bytes == 4 * 3232
    assert profile.tied_bytes == 0
    assert profile.weight_bytes == 4 * (32 * 32 + 32 * 64 + 32 + 3200 + 3232)


def test_without_an_output_matrix_the_token_embedding_serves_as_one() -> None:
    assert p.LLAMA_3_8B.profile().tied_bytes == 4 * 32 * 32


def test_layers_for_speculation_have_weights_and_no_cache() -> None:
    keys = p.attention(32, 8, 128) | {"nextn_predict_layers": 1}
    layers = p.Published("glm4moe", 4, 4096, keys).profile().layers
    assert [bool(layer.key_width) for layer in layers] == [True, True, True, False]


def test_an_unknown_architecture_is_taken_for_an_ordinary_one_and_says_so() -> None:
    profile = p.Published("brandnew", 4, 64, p.attention(4, 2, 16)).profile()
    assert [layer.key_width for layer in profile.layers] == [32] * 4
    (sentence,) = profile.assumptions
    assert "brandnew is not known" in sentence


def test_without_head_counts_the_cache_is_taken_to_be_as_wide_as_the_embedding() -> None:
    profile = p.Published("llama", 2, 64).profile()
    assert [(layer.key_width, layer.value_width) for layer in profile.layers] == [(64, 64)] * 2
    assert "no attention heads" in profile.assumptions[0]


def test_what_is_known_needs_no_assumption() -> None:
    assert p.LLAMA_3_8B.profile().assumptions == ()
    assert set(WINDOWS) <= KNOWN


def test_a_pattern_of_the_wrong_length_is_refused() -> None:
    keys = p.GEMMA_2_9B.keys | {"attention.sliding_window_pattern": [True, False]}
    with pytest.raises(NotAModel, match="sliding_window_pattern has 2 items"):
        p.Published("gemma2", 42, 3584, keys).profile()


_NUMBERS = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 64, 2**24, 2**30]))


@given(
    st.sampled_from(sorted(KNOWN)),
    st.dictionaries(
        st.sampled_from(
            [
                "attention.sliding_window", "attention.sliding_window_pattern",
                "attention.key_length_swa", "attention.value_length_swa",
                "attention.key_length_mla", "attention.value_length_mla",
                "attention.kv_lora_rank", "attention.shared_kv_layers", "ssm.conv_kernel",
                "ssm.inner_size", "ssm.state_size", "ssm.group_count", "wkv.head_size",
                "shortconv.l_cache", "kda.head_dim", "token_shift_count",
                "full_attention_interval", "feed_forward_length", "nextn_predict_layers",
                "expert_count", "expert_used_count", "attention.recurrent_layers",
            ]
        ),
        _NUMBERS,
        max_size=6,
    ),
)  # fmt: skip
def test_any_numbers_give_a_profile_or_a_refusal(name: str, keys: dict[str, int]) -> None:
    try:
        profile = p.Published(name, 4, 64, p.attention(4, 2, 16) | keys).profile()
    except NotAModel:
        return
    assert len(profile.layers) == 4
    assert all(
        min(layer.key_width, layer.value_width, layer.state_width) >= 0 for layer in profile.layers
    )


def test_the_types_of_matrices_that_may_be_repacked_are_known() -> None:
    file = ModelFile(tensors=(Tensor("blk.0.attn_q.weight", (32, 32), type=2),)).having(
        Entry("llama.block_count", "u32", 1)
    )
    assert header_of(file.packed()).profile.layers[0].matrices == (("Q4_0", 32 * 18),)


@pytest.mark.parametrize(
    ("pooling", "head", "purpose"),
    [
        (None, False, Purpose.CHAT),
        (0, False, Purpose.CHAT),
        (1, False, Purpose.EMBEDDING),
        (2, True, Purpose.EMBEDDING),
        (3, False, Purpose.EMBEDDING),
        (4, True, Purpose.RANKING),
        (4, False, Purpose.TOKENS),
    ],
)
def test_the_pooling_says_what_a_model_is_for(
    pooling: int | None, head: bool, purpose: Purpose
) -> None:
    file = ModelFile()
    if pooling is not None:
        file = file.having(Entry("llama.pooling_type", "u32", pooling))
    if head:
        file = replace(file, tensors=(*file.tensors, Tensor("cls.output.weight", (32, 1))))
    assert header_of(file.packed()).profile.purpose is purpose


def test_a_pooling_that_llama_cpp_dies_of_is_refused() -> None:
    with pytest.raises(NotAModel, match="pooling_type"):
        header_of(ModelFile().having(Entry("llama.pooling_type", "u32", 5)).packed())


def test_an_encoder_that_names_no_pooling_has_only_vectors_of_tokens() -> None:
    assert p.BGE_LARGE.profile().purpose is Purpose.TOKENS
