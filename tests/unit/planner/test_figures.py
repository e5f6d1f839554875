"""Figures that are better than arithmetic, and the runs they hold for."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.planner.test_fit import GIB, WISHES, llama, machine
from unified_llm.domain.errors import NoRoom
from unified_llm.domain.measurements import DryRun, Figure, FigureSource, MeasuredRun
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner.cache_types import Q8_0
from unified_llm.planner.estimate import Layout, estimate_memory
from unified_llm.planner.figures import Figures, rehearsed
from unified_llm.planner.fit import Machine, Wishes, find_plan
from unified_llm.planner.run_shape import RunShape

PROFILE = llama()
RUN = MeasuredRun("ab" * 32, Tokens(8192), 4, "f16", 512, (), "llama 1")
SHAPE = RunShape(Tokens(8192), 4)
TOOK = Figure(RUN, {"ram": Bytes(9 * GIB)})


def test_a_figure_takes_the_place_of_arithmetic_for_its_own_run_only() -> None:
    figures = Figures([TOOK])
    plain = estimate_memory(PROFILE, SHAPE)
    known = figures.applied(plain, SHAPE, Layout())
    assert (known.source, known.ram.buffers) == (FigureSource.MEASURED, 9 * GIB)
    assert known.ram.process == plain.ram.process
    for other in (
        replace(SHAPE, context_tokens=Tokens(8191)),
        replace(SHAPE, slots=3),
        replace(SHAPE, cache_type=Q8_0),
        replace(SHAPE, keeps_whole_windows=True),
    ):
        unknown = estimate_memory(PROFILE, other)
        assert figures.applied(unknown, other, Layout()) is unknown


def test_a_layout_on_gpus_is_another_run() -> None:
    run = replace(RUN, gpu_layers=(0, 32), gpus=("a", "b"))
    figure = Figure(run, {"ram": Bytes(GIB), "b": Bytes(5 * GIB)})
    layout = Layout((0, 32))
    plain = estimate_memory(PROFILE, SHAPE, layout)
    known = Figures([figure, TOOK], ["a", "b"]).applied(plain, SHAPE, layout)
    assert [each.buffers for each in (known.ram, *known.gpus)] == [GIB, 0, 5 * GIB]
    # The same card may have got another number, and another card the old one.
    moved = Layout((32, 0))
    swapped = estimate_memory(PROFILE, SHAPE, moved)
    applied = Figures([figure], ["b", "a"]).applied(swapped, SHAPE, moved)
    assert [each.buffers for each in applied.gpus] == [5 * GIB, 0]
    assert Figures([figure], ["c", "a"]).applied(swapped, SHAPE, moved) is swapped
    fewer = replace(layout, cpu_experts=1)
    assert Figures([figure], ["a", "b"]).applied(plain, SHAPE, fewer) is plain


def test_a_measurement_is_believed_before_a_dry_run() -> None:
    dry = Figure(RUN, {"ram": Bytes(8 * GIB)}, FigureSource.DRY_RUN)
    for known in ([TOOK, dry], [dry, TOOK]):
        found = Figures(known).applied(estimate_memory(PROFILE, SHAPE), SHAPE, Layout())
        assert (found.source, found.ram.buffers) == (FigureSource.MEASURED, 9 * GIB)


def test_a_device_the_figure_does_not_name_stays_as_computed() -> None:
    plain = estimate_memory(PROFILE, SHAPE, Layout((32,)))
    run = replace(RUN, gpu_layers=(32,), gpus=("a",))
    known = Figures([Figure(run, {"ram": Bytes(GIB)})], ["a"])
    assert known.applied(plain, SHAPE, Layout((32,))).gpus == plain.gpus


def test_what_was_measured_decides_what_fits() -> None:
    needed = estimate_memory(PROFILE, SHAPE).total
    exactly = replace(machine(1), ram=replace(machine(1).ram, free_bytes=needed))
    assert find_plan(PROFILE, exactly, WISHES).run == SHAPE
    # It took more than arithmetic says, so it does not go there again.
    assert find_plan(PROFILE, exactly, WISHES, [TOOK]).run != SHAPE
    less = Figure(RUN, {"ram": Bytes(needed - 3 * GIB)})
    tight = replace(exactly, ram=replace(exactly.ram, free_bytes=Bytes(needed - 2 * GIB)))
    assert find_plan(PROFILE, tight, WISHES).run != SHAPE
    found = find_plan(PROFILE, tight, WISHES, [less])
    assert (found.run, found.estimate.source) == (SHAPE, FigureSource.MEASURED)


def test_a_longer_context_that_is_known_to_fit_is_found() -> None:
    wishes = replace(WISHES, slots=1, cache_type=Q8_0)
    devices = machine(5.0)
    by_arithmetic = find_plan(PROFILE, devices, wishes).run.context_tokens
    assert 2048 < by_arithmetic < 8192
    run = replace(RUN, slots=1, cache_type="q8_0", context_tokens=Tokens(7680))
    known = Figure(run, {"ram": Bytes(int(4.9 * GIB))})
    assert find_plan(PROFILE, devices, wishes, [known]).run.context_tokens == 7680


def test_a_layout_that_is_known_to_fit_is_found() -> None:
    run = replace(RUN, gpu_layers=(32,), gpus=("GPU 0",))
    needed = estimate_memory(PROFILE, SHAPE, Layout((32,))).gpus[0].total
    devices = machine(64, (needed - 2**20) / GIB)
    assert find_plan(PROFILE, devices, WISHES).run != SHAPE
    known = Figure(run, {"ram": Bytes(GIB), "GPU 0": Bytes(needed - 2**21)})
    found = find_plan(PROFILE, devices, WISHES, [known])
    assert (found.run, found.layout) == (SHAPE, Layout((32,)))


KNOWN = st.lists(
    st.builds(
        lambda context, slots, size: Figure(
            replace(RUN, context_tokens=Tokens(context), slots=slots), {"ram": Bytes(size)}
        ),
        st.sampled_from([8192, 7936, 4096, 2048]),
        st.integers(1, 4),
        st.integers(3 * GIB, 12 * GIB),
    ),
    max_size=4,
)


def rung(devices: Machine, wishes: Wishes, known: list[Figure]) -> tuple[int, int]:
    try:
        plan = find_plan(PROFILE, devices, wishes, known)
    except NoRoom:
        return (0, 0)
    assert plan.estimate.ram.total <= devices.ram.budget
    return (plan.run.context_tokens, plan.run.slots)


@settings(max_examples=60, deadline=None)
@given(known=KNOWN, gib=st.floats(4, 12), more=st.floats(0, 4))
def test_with_figures_too_more_memory_never_makes_the_context_shorter(
    known: list[Figure], gib: float, more: float
) -> None:
    wishes = replace(WISHES, cache_type=Q8_0, slots=1)
    before = rung(machine(gib), wishes, known)
    assert rung(machine(gib + more), wishes, known) >= before


def test_a_dry_run_corrects_what_arithmetic_has_computed() -> None:
    layout = Layout((16,))
    plain = estimate_memory(PROFILE, SHAPE, layout)
    cache = plain.ram.cache + plain.gpus[0].cache
    dry = DryRun(Bytes(cache + 2000), {"ram": Bytes(5000), "a": Bytes(6000)})
    found = rehearsed(plain, dry, ["a"])
    assert found.source is FigureSource.DRY_RUN
    assert found.ram.buffers == plain.ram.weights + plain.ram.cache + 1000 + 5000
    assert found.gpus[0].buffers == plain.gpus[0].weights + plain.gpus[0].cache + 1000 + 6000


def test_a_dry_run_leaves_an_unused_gpu_empty_and_finds_a_cache_nobody_expected() -> None:
    layout = Layout((0, 32))
    plain = estimate_memory(PROFILE, SHAPE, layout)
    found = rehearsed(plain, DryRun(Bytes(0), {"ram": Bytes(0)}), ["a", "b"])
    assert found.gpus[0] == plain.gpus[0]
    assert found.ram.buffers == plain.ram.weights
    layers = tuple(replace(each, key_width=0, value_width=0) for each in PROFILE.layers)
    bare = estimate_memory(replace(PROFILE, layers=layers), SHAPE)
    unexpected = rehearsed(bare, DryRun(Bytes(GIB), {"ram": Bytes(10)}), [])
    assert unexpected.ram.buffers == bare.ram.weights + GIB + 10
