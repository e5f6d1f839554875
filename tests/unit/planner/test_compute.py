"""The compute buffer, against what the pinned llama.cpp printed for these very shapes."""

from dataclasses import replace

import pytest

from tests.unit.gguf import published as p
from unified_llm.domain.profile import GraphWidths, LayerProfile, ModelProfile
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner.cache_types import F16
from unified_llm.planner.compute import layer_buffer, output_buffer
from unified_llm.planner.run_shape import RunShape

MIB = 1024 * 1024
CACHED = LayerProfile(Bytes(0), key_width=64, value_width=64)


def shaped(widths: GraphWidths, vocabulary: int = 512, *layers: LayerProfile) -> ModelProfile:
    profile = p.LLAMA_3_8B.profile()
    return replace(profile, widths=widths, vocabulary_size=vocabulary, layers=layers or (CACHED,))


@pytest.mark.parametrize(
    ("widths", "context", "printed"),
    [
        (GraphWidths(1024, 1024, 1024, 1024, feed_forward=2 * 2816), 4096, 28.51),
        (GraphWidths(1024, 1024, 1024, 1024, feed_forward=2 * 2816), 65_536, 88.51),
        (GraphWidths(2048, 2048, 512, 512, feed_forward=2 * 8192), 4096, 68.01),
        (
            GraphWidths(
                2048, 4096, 512, 512, experts=128, experts_used=8, expert_feed_forward=2 * 768
            ),
            16_384,
            104.01,
        ),
        (
            GraphWidths(
                4096, 4096, 1024, 1024, experts=8, experts_used=2, expert_feed_forward=2 * 14_336
            ),
            16_384,
            216.01,
        ),
        (
            GraphWidths(1024, 32 * 288, 288, 256, 2 * 2816, latent=32 * 256, decompressed=32 * 96),
            16_384,
            68.01,
        ),
    ],
)
def test_the_widest_layer_decides(widths: GraphWidths, context: int, printed: float) -> None:
    found = layer_buffer(shaped(widths), RunShape(Tokens(context), 1, F16))
    assert found / MIB == pytest.approx(printed, abs=0.1)


@pytest.mark.parametrize(("vocabulary", "printed"), [(32_000, 68.5), (151_936, 302.75)])
def test_logits_of_every_token_decide_where_the_output_is(vocabulary: int, printed: float) -> None:
    profile = shaped(GraphWidths(1024), vocabulary)
    assert output_buffer(profile, RunShape(Tokens(512), 1, is_whole=True)) / MIB == printed


def test_a_conversation_has_logits_of_its_last_token_and_of_drafted_ones_only() -> None:
    profile = shaped(GraphWidths(1024), 151_936)
    rest = output_buffer(shaped(GraphWidths(1024), 0), RunShape(Tokens(8192), 8))
    plain = output_buffer(profile, RunShape(Tokens(8192), 8))
    drafting = output_buffer(profile, RunShape(Tokens(8192), 8, drafts=True))
    assert plain - rest == 8 * 151_936 * 4
    assert drafting - rest == (8 + 16) * 151_936 * 4


def test_each_kind_of_cache_has_a_mask_of_its_own() -> None:
    windowed = replace(CACHED, window=Tokens(512))
    one = layer_buffer(shaped(GraphWidths(1024)), RunShape(Tokens(16_384), 1))
    both = layer_buffer(
        shaped(GraphWidths(1024), 512, CACHED, windowed),
        RunShape(Tokens(16_384), 1, keeps_whole_windows=True),
    )
    assert both - one == 16 * MIB


def test_an_encoder_has_no_logits() -> None:
    assert output_buffer(p.BGE_LARGE.profile(), RunShape(Tokens(512), 1)) == 0
