"""Adapters in the memory of a model, wherever its layers go."""

from pathlib import PurePath

from tests.unit.gguf.published import LLAMA_3_8B
from unified_llm.domain.models import Adapter
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner.adapters import with_adapters
from unified_llm.planner.estimate import Layout, estimate_memory
from unified_llm.planner.run_shape import RunShape

DENSE = LLAMA_3_8B.profile()


def adapter(layer: int, other: int) -> Adapter:
    sizes = tuple(Bytes(layer) for _ in DENSE.layers)
    return Adapter("law", PurePath("/a"), 1.0, None, None, sizes, Bytes(other))


def test_an_adapter_takes_memory_where_the_weights_are_that_it_changes() -> None:
    run, half = RunShape(Tokens(1024), 1), Layout((len(DENSE.layers) // 2,))
    adapted = with_adapters(DENSE, [adapter(1000, 10), adapter(2000, 0)])
    before, after = (estimate_memory(each, run, half) for each in (DENSE, adapted))
    on_gpu = len(DENSE.layers) // 2
    assert after.gpus[0].total - before.gpus[0].total == 3000 * on_gpu + 10
    assert after.ram.total - before.ram.total == 3000 * (len(DENSE.layers) - on_gpu)


def test_without_adapters_a_profile_stays_as_it_is() -> None:
    assert with_adapters(DENSE, []) == DENSE
