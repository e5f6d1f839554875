"""What a question for a plan may hold, and what the answer is made of."""

from dataclasses import replace

import pytest

from tests.fakes.house import TINY, make_spec
from tests.unit.planner.test_fit import llama
from unified_llm.domain.devices import RAM, DeviceId
from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad, NoRoom
from unified_llm.domain.measurements import DryRun, Figure, FigureSource, MeasuredRun
from unified_llm.domain.models import GpuUse
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.operations.plans import PlanQuestion, answer_plan, placement_of, with_dry_run

GIB = 2**30
SPEC = replace(make_spec(TINY), profile=llama())
PLENTY = Bytes(64 * GIB)
ROOM = {RAM: PLENTY}


def test_what_is_not_asked_is_as_the_catalogue_has_it() -> None:
    report = answer_plan(SPEC, PlanQuestion(), ROOM)
    assert (report.plan.run.context_tokens, report.plan.run.slots) == (4096, 2)
    (ram,) = report.devices
    assert (ram.name, ram.budget, ram.layers) == ("RAM", PLENTY, 32)
    assert ram.used == report.plan.estimate.total == sum(part.size_bytes for part in report.parts)


def test_named_devices_are_planned_for_and_not_the_daemons_own() -> None:
    question = PlanQuestion(ram=Bytes(GIB), gpus=(Bytes(8 * GIB), Bytes(GIB)))
    report = answer_plan(SPEC, question, {DeviceId("nvml:0"): PLENTY})
    assert [(each.name, each.layers) for each in report.devices] == [
        ("RAM", 0),
        ("GPU 0", 32),
        ("GPU 1", 0),
    ]


def test_a_context_that_may_not_be_cut_is_not_cut() -> None:
    asked = PlanQuestion(context_tokens=Tokens(100_000), slots=1)
    with pytest.raises(NoRoom):
        answer_plan(SPEC, asked, {RAM: Bytes(8 * GIB)})
    cut = answer_plan(SPEC, replace(asked, minimum_context=Tokens(1024)), {RAM: Bytes(8 * GIB)})
    assert 1024 <= cut.plan.run.context_tokens < 100_000
    assert len(cut.sacrifices) == 2


@pytest.mark.parametrize(
    ("question", "parameter"),
    [
        (PlanQuestion(context_tokens=Tokens(0)), "context_tokens"),
        (PlanQuestion(context_tokens=Tokens(2**24 + 1)), "context_tokens"),
        (PlanQuestion(minimum_context=Tokens(4097)), "minimum_context"),
        (PlanQuestion(slots=0), "slots"),
        (PlanQuestion(slots=257), "slots"),
        (PlanQuestion(cache_type="q3_x"), "cache_type"),
        (PlanQuestion(gpus=(Bytes(1),) * 17), "gpus"),
    ],
)
def test_a_question_out_of_range_is_refused_by_name(question: PlanQuestion, parameter: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        answer_plan(SPEC, question, ROOM)
    assert caught.value.parameter == parameter


def test_a_model_with_a_defect_has_no_plan() -> None:
    broken = replace(SPEC, profile=None, defect="It is a picture.")
    with pytest.raises(ModelFailedToLoad, match="It is a picture"):
        answer_plan(broken, PlanQuestion(), ROOM)


def test_the_machines_own_gpus_are_planned_for_when_none_are_named() -> None:
    free = {RAM: PLENTY, DeviceId("nvml:0"): PLENTY}
    report = answer_plan(SPEC, PlanQuestion(), free)
    assert [(each.name, each.layers) for each in report.devices] == [("RAM", 0), ("nvml:0", 32)]
    without = answer_plan(SPEC, PlanQuestion(gpus=()), free)
    assert [each.name for each in without.devices] == ["RAM"]
    kept_off = answer_plan(replace(SPEC, gpu=GpuUse.OFF), PlanQuestion(), free)
    assert [each.name for each in kept_off.devices] == ["RAM"]


def test_what_the_catalogue_says_of_cache_minimum_and_gpu_holds_for_a_plan_too() -> None:
    small = replace(SPEC, cache_type="q4_0", minimum_context=Tokens(256))
    assert answer_plan(small, PlanQuestion(), ROOM).plan.run.cache_type.name == "q4_0"
    with pytest.raises(NoRoom, match="on GPUs alone"):
        answer_plan(replace(SPEC, gpu=GpuUse.REQUIRED), PlanQuestion(), ROOM)
    tight = {RAM: Bytes(int(4.75 * GIB))}
    cut = answer_plan(replace(SPEC, minimum_context=Tokens(256)), PlanQuestion(), tight)
    assert cut.plan.run.context_tokens < 4096


def test_a_plan_says_where_its_figures_come_from() -> None:
    plain = answer_plan(SPEC, PlanQuestion(), ROOM)
    assert plain.plan.estimate.source is FigureSource.ARITHMETIC
    took = Bytes(plain.plan.estimate.ram.buffers - 1000)
    run = MeasuredRun("ab" * 32, Tokens(4096), 2, "f16", 512, (), "llama 1")
    known = replace(SPEC, figures=(Figure(run, {"ram": took}),))
    report = answer_plan(known, PlanQuestion(), ROOM)
    assert report.plan.estimate.source is FigureSource.MEASURED
    assert report.plan.estimate.total == plain.plan.estimate.total - 1000
    (part,) = [each for each in report.parts if each.source is FigureSource.MEASURED]
    assert (part.part, part.size_bytes) == ("correction", -1000)
    assert sum(each.size_bytes for each in report.parts) == report.plan.estimate.total


def test_a_dry_run_takes_the_place_of_arithmetic_and_not_of_a_measurement() -> None:
    plain = answer_plan(SPEC, PlanQuestion(), ROOM)
    ram = plain.plan.estimate.ram
    dry = DryRun(Bytes(ram.cache), {"ram": Bytes(ram.compute + ram.output + 500)})
    better = with_dry_run(plain, dry)
    assert better.plan.estimate.source is FigureSource.DRY_RUN
    assert better.devices[0].used == plain.devices[0].used + 500
    assert sum(each.size_bytes for each in better.parts) == better.plan.estimate.total
    run = MeasuredRun("ab" * 32, Tokens(4096), 2, "f16", 512, (), "llama 1")
    known = replace(SPEC, figures=(Figure(run, {"ram": Bytes(GIB)}),))
    measured = answer_plan(known, PlanQuestion(), ROOM)
    assert with_dry_run(measured, dry) is measured


def test_what_is_rehearsed_is_what_would_be_loaded() -> None:
    free = {RAM: PLENTY, DeviceId("nvml:0"): PLENTY}
    placement = placement_of(SPEC, answer_plan(SPEC, PlanQuestion(), free))
    assert (placement.context_tokens, placement.slots) == (4096, 2)
    assert (placement.gpus, placement.gpu_layers) == ((DeviceId("nvml:0"),), (32,))
    off = placement_of(SPEC, answer_plan(SPEC, PlanQuestion(), ROOM))
    assert (off.gpus, off.gpu_layers) == ((), ())
    with pytest.raises(InvalidRequest, match="own GPUs"):
        answer_plan(SPEC, PlanQuestion(gpus=(Bytes(GIB),), is_rehearsed=True), ROOM)
