"""A strategy of somebody else's orders targets, and breaks nothing."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.unit.routing.targets import far, here
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.own_strategy import OwnStrategy
from unified_llm.routing.rules import Asking

ASKING = Asking(ModelId("smart"), "uid:1000", Bytes(9), has_tools=True, stays_local=False)
TARGETS = (far("a/x"), here("cold"), here("warm", loaded=True))


def order_of(order: Any, clock: FakeClock | None = None) -> tuple[list[str], str]:
    found = OwnStrategy("mine", order).prefer(TARGETS, ASKING, clock or FakeClock())
    return [each.model for each in found.ordered], found.why


def test_it_sees_what_is_known_and_what_it_leaves_out_comes_last() -> None:
    def loaded_first(targets: Sequence[Candidate], asking: Asking) -> list[str]:
        assert (asking.principal, asking.has_tools) == ("uid:1000", True)
        return [each.model for each in targets if each.is_resident]

    assert order_of(loaded_first) == (["warm", "a/x", "cold"], "ordered by strategy mine")


def leave(targets: Sequence[Candidate], asking: Asking) -> list[str]:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        (lambda targets, asking: 1 / 0, "failed with ZeroDivisionError"),
        (leave, "failed with SystemExit"),
        (lambda targets, asking: None, "failed with TypeError"),
        (lambda targets: targets, "failed with TypeError"),
        (lambda targets, asking: [[]], "failed with TypeError"),
        (lambda targets, asking: ["elsewhere"], "named what is not among the targets"),
        (lambda targets, asking: "warm", "named what is not among the targets"),
        (lambda targets, asking: targets, "named what is not among the targets"),
        (lambda targets, asking: ["warm", "warm"], "named a target twice"),
    ],
)
def test_where_it_fails_or_says_nonsense_targets_are_asked_as_written(
    order: Any, fault: str
) -> None:
    assert order_of(order) == (["a/x", "cold", "warm"], f"as written: strategy mine {fault}")


def test_a_fault_is_logged_once_and_forgotten_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers: list[Any] = [["elsewhere"], ["elsewhere"], ["warm"], ["elsewhere"]]
    strategy = OwnStrategy("mine", lambda targets, asking: answers.pop(0))
    faults = []
    with caplog.at_level(logging.WARNING):
        while answers:
            strategy.prefer(TARGETS, ASKING, FakeClock())
            faults.append(strategy.fault is None)
    assert faults == [False, False, True, False]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_one_that_holds_up_the_loop_is_not_called_again() -> None:
    clock, called = FakeClock(), list[int]()

    def dawdle(targets: Sequence[Candidate], asking: Asking) -> list[ModelId]:
        called.append(1)
        clock.advance(0.3)
        return [ModelId("warm")]

    strategy = OwnStrategy("mine", dawdle)
    for _ in range(2):
        found = strategy.prefer(TARGETS, ASKING, clock)
        assert found.ordered == TARGETS
        assert found.why == "as written: strategy mine took 0.3 s; 0.1 is the limit"
    assert called == [1]


@given(st.lists(st.sampled_from(["a/x", "cold", "warm", "elsewhere", "", None, 3])))
def test_whatever_it_says_each_target_is_asked_once(said: list[object]) -> None:
    models, _ = order_of(lambda targets, asking: said)
    assert sorted(models) == ["a/x", "cold", "warm"]
