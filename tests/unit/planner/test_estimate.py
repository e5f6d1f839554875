"""The arithmetic, with the numbers publishers give for their models and llama.cpp prints."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.real_models import smollm2
from tests.unit.gguf import published as p
from unified_llm.domain.profile import LayerProfile, ModelProfile
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner import run_shape
from unified_llm.planner.cache_types import CACHE_TYPES, F16, Q8_0
from unified_llm.planner.estimate import PROCESS_BYTES, Layout, estimate_memory
from unified_llm.planner.run_shape import RunShape
from unified_llm.registry.files import ModelFiles
from unified_llm.worker import draft_pace

MIB = 1024 * 1024


def run(context: int, slots: int = 1, cache_type: str = "f16", *, whole: bool = True) -> RunShape:
    return RunShape(Tokens(context), slots, CACHE_TYPES[cache_type], whole)


@pytest.mark.parametrize(
    ("model", "shape", "mebibytes"),
    [
        (p.LLAMA_3_8B, run(8192), 1024),
        (p.LLAMA_3_8B, run(8192, 4), 4096),
        (p.LLAMA_3_8B, run(8192, 1, "q8_0"), 544),
        (p.LLAMA_3_8B, run(8192, 1, "q4_0"), 288),
        (p.MIXTRAL_8X7B, run(32_768), 4096),
        (p.QWEN3_30B_A3B, run(32_768), 3072),
        (p.GEMMA_2_9B, run(8192), 42 * 64),
        (p.GEMMA_2_9B, run(8192, whole=False), 21 * 64 + 21 * 36),
        (p.GPT_OSS_20B, run(131_072, whole=False), 12 * 256 + 12 * 1.5),
        (p.DEEPSEEK_V2_LITE, run(4096), 27 * 4.5),
        (p.LFM2_1_2B, run(32_768), 6 * 64),
        (p.QWEN3_NEXT_80B, run(262_144), 12 * 512),
        (p.MAMBA_2_8B, run(1_000_000), 0),
        (p.BGE_LARGE, run(512), 0),
    ],
)
def test_the_cache_takes(model: p.Published, shape: RunShape, mebibytes: float) -> None:
    assert estimate_memory(model.profile(), shape).ram.cache == mebibytes * MIB


def test_a_recurrent_state_grows_with_slots_and_not_with_context() -> None:
    profile = p.MAMBA_2_8B.profile()
    assert estimate_memory(profile, run(512)).ram.state == 64 * 5120 * 19 * 4
    assert estimate_memory(profile, run(65_536, 4)).ram.state == 4 * 64 * 5120 * 19 * 4


def test_logits_of_drafted_tokens_are_set_aside_where_there_are_drafts() -> None:
    assert run_shape.MOST_DRAFTED == draft_pace.MOST_DRAFTED
    profile, plain = p.LLAMA_3_8B.profile(), run(8192)
    without = estimate_memory(profile, plain).ram
    drafting = estimate_memory(profile, replace(plain, drafts=True)).ram
    assert drafting.drafts == drafting.total - without.total == 16 * 4 * profile.vocabulary_size
    assert drafting.buffers == without.buffers  # a load has none
    assert estimate_memory(profile, replace(plain, drafts=True, is_whole=True)).ram.drafts == 0


def test_smollm2_takes_what_llama_cpp_prints() -> None:
    header = ModelFiles().inspect(smollm2()).header
    assert header is not None
    ram = estimate_memory(header.profile, run(4096, 4)).ram
    assert ram.weights / MIB == pytest.approx(92.10, abs=0.01)
    assert ram.cache == 360 * MIB
    assert ram.output / MIB == pytest.approx(0.75, abs=0.01)
    assert ram.compute / MIB == pytest.approx(17.51, abs=0.1)
    assert ram.total == ram.buffers + PROCESS_BYTES


def test_contexts_are_rounded_up_to_256_cells() -> None:
    profile = p.LLAMA_3_8B.profile()
    assert (
        estimate_memory(profile, run(257)).ram.cache == estimate_memory(profile, run(512)).ram.cache
    )


def test_the_output_goes_with_the_last_layer_and_the_input_stays() -> None:
    profile = replace(p.LLAMA_3_8B.profile(), input_bytes=Bytes(100), output_bytes=Bytes(10_000))
    found = estimate_memory(profile, run(4096), Layout((10, 6)))
    whole = estimate_memory(profile, run(4096))
    assert found.gpus[0].cache == 10 * 16 * MIB
    assert found.gpus[1].cache == 6 * 16 * MIB
    assert found.gpus[0].weights == 0
    assert found.gpus[1].weights == 10_000 + profile.tied_bytes
    assert found.ram.weights == 100
    assert found.ram.cache == whole.ram.cache - 16 * 16 * MIB


def test_experts_left_behind_stay_in_main_memory() -> None:
    layer = LayerProfile(Bytes(100), expert_bytes=Bytes(90))
    profile = replace(p.MIXTRAL_8X7B.profile(), layers=(layer,) * 4, input_bytes=Bytes(0))
    profile = replace(profile, output_bytes=Bytes(0), tied_bytes=Bytes(0))
    found = estimate_memory(profile, run(512), Layout((4,), cpu_experts=3))
    assert (found.ram.weights, found.gpus[0].weights) == (270, 130)


def test_a_cpu_keeps_second_copies_of_some_types() -> None:
    layer = LayerProfile(Bytes(100), matrices=(("Q4_0", Bytes(60)), ("Q6_K", Bytes(40))))
    profile = replace(p.LLAMA_3_8B.profile(), layers=(layer,) * 2)
    assert estimate_memory(profile, run(512)).ram.repacked == 120
    assert estimate_memory(profile, run(512), Layout((2,))).ram.repacked == 0


_WIDTHS = st.integers(0, 64).map(lambda blocks: blocks * 32)
_LAYERS = st.builds(
    LayerProfile,
    weight_bytes=st.integers(0, 2**30).map(Bytes),
    key_width=_WIDTHS,
    value_width=_WIDTHS,
    window=st.none() | st.integers(1, 8192).map(Tokens),
    state_width=st.integers(0, 2**20),
)


@st.composite
def profiles(draw: st.DrawFn) -> ModelProfile:
    layers = draw(st.lists(_LAYERS, min_size=1, max_size=6))
    return replace(p.LLAMA_3_8B.profile(), layers=tuple(layers))


@given(profiles(), st.integers(1, 2**17), st.integers(1, 32), st.booleans())
def test_more_of_anything_never_takes_less(
    profile: ModelProfile, context: int, slots: int, whole: bool
) -> None:
    def total(context: int, slots: int, cache_type: str = "q8_0") -> int:
        found = estimate_memory(profile, run(context, slots, cache_type, whole=whole)).ram
        return found.total - found.compute

    least = total(context, slots)
    assert total(context + 1, slots) >= least
    assert total(context, slots + 1) >= least
    assert total(context, slots, "f16") >= least


@given(profiles(), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 6))
def test_dealing_layers_out_neither_loses_nor_doubles_any(
    profile: ModelProfile, counts: list[int], cpu_experts: int
) -> None:
    while sum(counts) > len(profile.layers):
        counts.pop()
    whole = estimate_memory(profile, run(4096)).ram
    dealt = estimate_memory(profile, run(4096), Layout(tuple(counts), cpu_experts))
    parts = (dealt.ram, *dealt.gpus)
    assert sum(part.cache for part in parts) == whole.cache
    assert sum(part.state for part in parts) == whole.state
    doubled = profile.tied_bytes if sum(counts) else 0
    assert sum(part.weights for part in parts) == whole.weights + doubled


def test_a_row_of_a_quantised_cache_holds_whole_blocks() -> None:
    assert (F16.row_bytes(100), Q8_0.row_bytes(64), Q8_0.row_bytes(65)) == (200, 68, 102)


def test_vectors_cost_a_row_of_logits_for_every_token_of_a_step() -> None:
    """Measured: MiniLM's output buffer grew by 60 MiB with the first step of 500 tokens."""
    whole = replace(run(512, 4), is_whole=True)
    bert = p.BGE_LARGE.profile()
    output = estimate_memory(bert, whole).ram.output
    assert output == 4 * 512 * (bert.vocabulary_size + 1024)
    # All slots share one step, so more of them cost nothing.
    assert estimate_memory(bert, replace(whole, slots=1)) == estimate_memory(bert, whole)


def test_a_decoder_that_makes_vectors_keeps_the_cells_of_one_step() -> None:
    cells = estimate_memory(p.LLAMA_3_8B.profile(), replace(run(8192, 4), is_whole=True)).ram.cache
    assert cells == estimate_memory(p.LLAMA_3_8B.profile(), run(8192)).ram.cache
