"""A plan in the parameters that llama.cpp is given."""

import ctypes
import re

import pytest

from unified_llm.domain.errors import GpuUnusable
from unified_llm.worker import offload
from unified_llm.worker.bindings import libggml, native
from unified_llm.worker.offload import place_layers
from unified_llm.worker.protocol import Load


def load_of(gpu_layers: tuple[int, ...], cpu_experts: int = 0) -> Load:
    return Load(
        model="m",
        path="/m",
        context_tokens=512,
        slots=1,
        threads=1,
        gpu_layers=gpu_layers,
        cpu_experts=cpu_experts,
    )


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """This build sees none, so their number is all that is pretended."""
    monkeypatch.setattr(offload, "_count_gpus", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("layers", "shares"), [((3, 5), (3, 6)), ((8, 0), (9, 0)), ((0, 8), (0, 9))]
)
def test_layers_are_split_as_the_plan_says_and_the_output_goes_with_the_last(
    layers: tuple[int, int], shares: tuple[float, float]
) -> None:
    params = native.llama_model_default_params()
    kept = place_layers(params, load_of(layers))
    assert kept
    assert params.n_gpu_layers == 9
    assert params.split_mode == native.LLAMA_SPLIT_MODE_LAYER
    assert (params.tensor_split[0], params.tensor_split[1]) == shares
    assert not params.tensor_buft_overrides


@pytest.mark.usefixtures("two_gpus")
def test_experts_of_the_first_layers_stay_in_main_memory() -> None:
    params = native.llama_model_default_params()
    kept = place_layers(params, load_of((12, 0), cpu_experts=2))
    overrides = ctypes.cast(params.tensor_buft_overrides, ctypes.POINTER(offload._BufferOverride))
    assert ctypes.addressof(kept[1]) == params.tensor_buft_overrides
    assert overrides[0].buffer_type == libggml.ggml_backend_cpu_buffer_type()
    assert overrides[1].pattern is None
    pattern = overrides[0].pattern.decode()
    for stays in ("blk.0.ffn_gate_exps.weight", "blk.1.ffn_down_exps.weight"):
        assert re.search(pattern, stays)
    for goes in (
        "blk.2.ffn_gate_exps.weight",
        "blk.10.ffn_up_exps.weight",
        "blk.0.ffn_gate_shexp.weight",
        "blk.0.ffn_gate_inp.weight",
        "blk.0.attn_q.weight",
    ):
        assert not re.search(pattern, goes)


@pytest.mark.usefixtures("two_gpus")
def test_more_gpus_than_the_build_sees_are_refused() -> None:
    with pytest.raises(GpuUnusable, match="has 3 GPUs; this build of the engine sees 2"):
        place_layers(native.llama_model_default_params(), load_of((1, 1, 1)))


def test_nothing_is_placed_where_there_is_no_gpu() -> None:
    params = native.llama_model_default_params()
    params.n_gpu_layers = 0
    assert place_layers(params, load_of(())) == ()
    assert params.n_gpu_layers == 0
