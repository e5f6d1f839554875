"""What is given up, in which order, and what never happens."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.gguf import published as p
from unified_llm.domain.errors import NoRoom
from unified_llm.domain.profile import LayerProfile, ModelProfile
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner.cache_types import F16, Q8_0
from unified_llm.planner.estimate import estimate_memory
from unified_llm.planner.fit import Device, Machine, Plan, Sacrifice, Wishes, find_plan
from unified_llm.planner.run_shape import RunShape

GIB = 2**30
WISHES = Wishes(Tokens(8192), Tokens(2048), 4)


def llama(weight_bytes: int = GIB // 8) -> ModelProfile:
    """Llama 3 8B with weights: 4 GiB in layers, 256 MiB at each end."""
    profile = p.LLAMA_3_8B.profile()
    layers = tuple(replace(layer, weight_bytes=Bytes(weight_bytes)) for layer in profile.layers)
    return replace(
        profile,
        layers=layers,
        input_bytes=Bytes(GIB // 4),
        output_bytes=Bytes(GIB // 4),
        tied_bytes=Bytes(0),
    )


def machine(ram: float, *gpus: float) -> Machine:
    """In GiB."""
    return Machine(
        Device("RAM", Bytes(int(ram * GIB))),
        tuple(Device(f"GPU {index}", Bytes(int(size * GIB))) for index, size in enumerate(gpus)),
    )


def terms(plan: Plan) -> tuple[str, int, int, tuple[int, ...]]:
    return (
        plan.run.cache_type.name,
        plan.run.slots,
        plan.run.context_tokens,
        plan.layout.gpu_layers,
    )


def test_with_room_for_everything_nothing_is_given_up() -> None:
    assert terms(find_plan(llama(), machine(16), WISHES)) == ("f16", 4, 8192, ())
    assert terms(find_plan(llama(), machine(16, 24), WISHES)) == ("f16", 4, 8192, (32,))


@pytest.mark.parametrize(
    ("vram", "expected"),
    [
        (9.0, ("f16", 4, 8192, (32,))),
        (7.0, ("q8_0", 4, 8192, (32,))),
        (6.0, ("q8_0", 3, 8192, (32,))),
        (5.25, ("q8_0", 1, 8192, (32,))),
        (4.6, ("q8_0", 1, 4608, (32,))),
        (2.0, ("f16", 4, 8192, None)),
    ],
)
def test_cache_type_then_slots_then_context_then_layers_are_given_up(
    vram: float, expected: tuple[str, int, int, tuple[int, ...] | None]
) -> None:
    found = find_plan(llama(), machine(64, vram), WISHES)
    cache_type, slots, context, layers = expected
    if layers is None:
        assert 0 < found.layout.gpu_layers[0] < 32
        return
    assert (found.run.cache_type.name, found.run.slots) == (cache_type, slots)
    assert found.layout.gpu_layers == layers
    assert abs(found.run.context_tokens - context) < 1024


def test_the_order_of_sacrifice_is_a_wish_too() -> None:
    order = (Sacrifice.CONTEXT, Sacrifice.SLOTS, Sacrifice.CACHE_TYPE, Sacrifice.LAYERS)
    found = find_plan(llama(), machine(64, 6.0), replace(WISHES, order=order))
    assert (found.run.cache_type, found.run.slots) == (F16, 4)
    assert found.run.context_tokens < 8192


def test_layers_may_be_given_up_first() -> None:
    order = (Sacrifice.LAYERS, Sacrifice.CONTEXT, Sacrifice.SLOTS, Sacrifice.CACHE_TYPE)
    found = find_plan(llama(), machine(64, 6.0), replace(WISHES, order=order))
    assert terms(found)[:3] == ("f16", 4, 8192)
    assert found.layout.offloaded < 32


def test_one_gpu_is_taken_before_two_and_the_roomiest_first() -> None:
    assert terms(find_plan(llama(), machine(16, 12, 24), WISHES))[3] == (0, 32)
    both = find_plan(llama(), machine(16, 6, 6), WISHES)
    assert both.layout.offloaded == 32
    assert all(both.layout.gpu_layers)


def test_experts_leave_the_gpu_before_whole_layers_do() -> None:
    profile = llama()
    layers = tuple(replace(layer, expert_bytes=Bytes(GIB // 10)) for layer in profile.layers)
    found = find_plan(replace(profile, layers=layers), machine(64, 4.0), WISHES)
    assert found.layout.offloaded == 32
    assert 0 < found.layout.cpu_experts <= 32


def test_what_must_be_on_gpus_is_refused_rather_than_put_into_main_memory() -> None:
    with pytest.raises(NoRoom, match="on GPUs alone"):
        find_plan(llama(), machine(64, 2.0), replace(WISHES, needs_gpu=True))
    with pytest.raises(NoRoom):
        find_plan(llama(), machine(64), replace(WISHES, needs_gpu=True))


def test_the_refusal_has_the_numbers() -> None:
    modest = estimate_memory(llama(), RunShape(Tokens(2048), 1, Q8_0)).total
    with pytest.raises(NoRoom) as caught:
        find_plan(llama(), machine(2, 1), WISHES)
    assert "2048 tokens of q8_0 cache in one slot take" in caught.value.message
    assert f"{modest / GIB:.1f} GiB" in caught.value.message
    assert "2.0 GiB of RAM, 1.0 GiB of GPU 0" in caught.value.message


def test_a_reserve_is_left_alone() -> None:
    gpu = Device("GPU 0", Bytes(9 * GIB), reserve_bytes=Bytes(2 * GIB))
    found = find_plan(llama(), replace(machine(64), gpus=(gpu,)), WISHES)
    assert found.run.cache_type is Q8_0
    assert found.estimate.gpus[0].total <= 7 * GIB


_MIB = 2**20
_layers = st.lists(
    st.builds(
        LayerProfile,
        weight_bytes=st.integers(50, 200).map(lambda size: Bytes(size * _MIB)),
        expert_bytes=st.sampled_from([0, 40]).map(lambda size: Bytes(size * _MIB)),
        key_width=st.sampled_from([0, 256, 1024]),
        value_width=st.sampled_from([0, 256, 1024]),
        state_width=st.sampled_from([0, 100_000]),
    ),
    min_size=1,
    max_size=8,
).map(lambda layers: replace(llama(), layers=tuple(layers)))
_sizes = st.integers(0, 3000).map(lambda size: Bytes(size * _MIB))
_machines = st.builds(
    Machine,
    st.builds(Device, st.just("RAM"), _sizes),
    st.lists(st.builds(Device, st.just("GPU"), _sizes, _sizes), max_size=3).map(tuple),
)
_wishes = st.builds(
    Wishes,
    st.integers(4096, 65_536).map(Tokens),
    st.integers(1, 4096).map(Tokens),
    st.integers(1, 4),
    order=st.permutations(list(Sacrifice)).map(tuple),
)


def plan_or_none(profile: ModelProfile, machine: Machine, wishes: Wishes) -> Plan | None:
    try:
        return find_plan(profile, machine, wishes)
    except NoRoom:
        return None


@given(_layers, _machines, _wishes)
@settings(deadline=None)
def test_a_plan_never_exceeds_any_budget(
    profile: ModelProfile, machine: Machine, wishes: Wishes
) -> None:
    plan = plan_or_none(profile, machine, wishes)
    if plan is None:
        return
    assert plan.estimate.ram.total <= machine.ram.budget
    for gpu, need in zip(machine.gpus, plan.estimate.gpus, strict=True):
        assert need.total <= gpu.budget
    assert plan.estimate == estimate_memory(profile, plan.run, plan.layout)
    assert wishes.minimum_context <= plan.run.context_tokens <= wishes.context_tokens
    assert 1 <= plan.run.slots <= wishes.slots


def rank(plan: Plan | None, wishes: Wishes, profile: ModelProfile) -> tuple[float, ...]:
    """The worse, the larger; what is given up last weighs most."""
    if plan is None:
        return (float("inf"),)
    given_up = {
        Sacrifice.CACHE_TYPE: int(plan.run.cache_type is not wishes.cache_type),
        Sacrifice.SLOTS: -plan.run.slots,
        Sacrifice.CONTEXT: -plan.run.context_tokens,
        Sacrifice.LAYERS: (len(profile.layers) - plan.layout.offloaded) * 100
        + plan.layout.cpu_experts,
    }
    return tuple(given_up[each] for each in reversed(wishes.order))


@given(_layers, _machines, _wishes, st.integers(1, 2000), st.integers(0, 3))
@settings(deadline=None)
def test_more_memory_never_makes_a_plan_worse(
    profile: ModelProfile, machine: Machine, wishes: Wishes, more: int, where: int
) -> None:
    def grown(device: Device) -> Device:
        return replace(device, free_bytes=Bytes(device.free_bytes + more * _MIB))

    if where < len(machine.gpus):
        gpus = (*machine.gpus[:where], grown(machine.gpus[where]), *machine.gpus[where + 1 :])
        larger = replace(machine, gpus=gpus)
    else:
        larger = replace(machine, ram=grown(machine.ram))
    before = rank(plan_or_none(profile, machine, wishes), wishes, profile)
    after = rank(plan_or_none(profile, larger, wishes), wishes, profile)
    assert after <= before


@given(_layers, _machines, _wishes)
@settings(deadline=None, max_examples=25)
def test_the_same_question_has_the_same_answer(
    profile: ModelProfile, machine: Machine, wishes: Wishes
) -> None:
    assert plan_or_none(profile, machine, wishes) == plan_or_none(profile, machine, wishes)
