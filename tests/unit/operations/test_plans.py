"""What a question for a plan may hold, and what the answer is made of."""

from dataclasses import replace

import pytest

from tests.fakes.house import TINY, make_spec
from tests.unit.planner.test_fit import llama
from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad, NoRoom
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.operations.plans import PlanQuestion, answer_plan

GIB = 2**30
SPEC = replace(make_spec(TINY), profile=llama())
PLENTY = Bytes(64 * GIB)


def test_what_is_not_asked_is_as_the_catalogue_has_it() -> None:
    report = answer_plan(SPEC, PlanQuestion(), PLENTY)
    assert (report.plan.run.context_tokens, report.plan.run.slots) == (4096, 2)
    (ram,) = report.devices
    assert (ram.name, ram.budget, ram.layers) == ("RAM", PLENTY, 32)
    assert ram.used == report.plan.estimate.total == sum(part.size_bytes for part in report.parts)


def test_named_devices_are_planned_for_and_not_the_daemons_own() -> None:
    question = PlanQuestion(ram=Bytes(GIB), gpus=(Bytes(8 * GIB), Bytes(GIB)))
    report = answer_plan(SPEC, question, Bytes(0))
    assert [(each.name, each.layers) for each in report.devices] == [
        ("RAM", 0),
        ("GPU 0", 32),
        ("GPU 1", 0),
    ]


def test_a_context_that_may_not_be_cut_is_not_cut() -> None:
    asked = PlanQuestion(context_tokens=Tokens(100_000), slots=1)
    with pytest.raises(NoRoom):
        answer_plan(SPEC, asked, Bytes(8 * GIB))
    cut = answer_plan(SPEC, replace(asked, minimum_context=Tokens(1024)), Bytes(8 * GIB))
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
        answer_plan(SPEC, question, PLENTY)
    assert caught.value.parameter == parameter


def test_a_model_with_a_defect_has_no_plan() -> None:
    broken = replace(SPEC, profile=None, defect="It is a picture.")
    with pytest.raises(ModelFailedToLoad, match="It is a picture"):
        answer_plan(broken, PlanQuestion(), PLENTY)
