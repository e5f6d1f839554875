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
    found = OwnStrategy("mine", order, FakeClock().now).prefer(
        TARGETS, ASKING, clock or FakeClock()
    )
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
    strategy = OwnStrategy("mine", lambda targets, asking: answers.pop(0), FakeClock().now)
    faults = []
    with caplog.at_level(logging.WARNING):
        while answers:
            strategy.prefer(TARGETS, ASKING, FakeClock())
            faults.append(strategy.fault is None)
    assert faults == [False, False, True, False]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


class Dawdler:
    """Takes a while each time, waiting or computing."""

    def __init__(self, *waits: float, computes: float = 0) -> None:
        self.clock, self.processor = FakeClock(), FakeClock()
        self._waits, self._computes, self.called = waits, computes, 0
        self.strategy = OwnStrategy("mine", self._order, self.processor.now)

    def ask(self) -> str:
        return self.strategy.prefer(TARGETS, ASKING, self.clock).why

    def _order(self, targets: Sequence[Candidate], asking: Asking) -> list[ModelId]:
        self.clock.advance(self._waits[self.called] + self._computes)
        self.processor.advance(self._computes)
        self.called += 1
        return [ModelId("warm")]


def test_one_that_computes_for_long_is_not_called_again() -> None:
    dawdler = Dawdler(0, computes=0.3)
    told = "as written: strategy mine took 0.3 s and computed 0.3; 0.1 is the limit"
    assert [dawdler.ask(), dawdler.ask()] == [told, told]
    assert dawdler.called == 1


def test_one_that_waits_again_and_again_is_not_called_again() -> None:
    dawdler = Dawdler(0.2, 0.2, 0.2)
    assert [dawdler.ask(), dawdler.ask()] == ["ordered by strategy mine"] * 2
    told = "as written: strategy mine took 0.2 s and computed 0.0; 0.1 is the limit"
    assert [dawdler.ask(), dawdler.ask()] == [told, told]
    assert dawdler.called == 3


def test_one_that_a_busy_machine_held_up_is_called_again() -> None:
    dawdler = Dawdler(5, 0.2, 0.01, 0.2, 5, 0.01)
    assert {dawdler.ask() for _ in range(6)} == {"ordered by strategy mine"}


@given(st.lists(st.sampled_from(["a/x", "cold", "warm", "elsewhere", "", None, 3])))
def test_whatever_it_says_each_target_is_asked_once(said: list[object]) -> None:
    models, _ = order_of(lambda targets, asking: said)
    assert sorted(models) == ["a/x", "cold", "warm"]
