"""Times to the first content are measured, mixed and forgotten."""

import pytest

from tests.unit.routing.targets import far, here
from unified_llm.domain.units import Instant, Seconds
from unified_llm.routing.latency import BELIEVED_FOR, Latencies

NOW = Instant(0.0)
FAR = far("a/x")


def expected(latencies: Latencies, now: Instant = NOW) -> Seconds | None:
    return latencies.expected(FAR.model, now, is_resident=False)


def test_what_was_not_measured_is_not_known() -> None:
    assert expected(Latencies()) is None


def test_later_measurements_count_for_a_part() -> None:
    latencies = Latencies()
    latencies.observe(FAR, Seconds(1), NOW)
    latencies.observe(FAR, Seconds(2), NOW)
    assert expected(latencies) == pytest.approx(1.3)


def test_old_measurements_are_forgotten() -> None:
    latencies = Latencies()
    latencies.observe(FAR, Seconds(1), NOW)
    assert expected(latencies, Instant(BELIEVED_FOR - 1)) == Seconds(1)
    assert expected(latencies, Instant(BELIEVED_FOR)) is None


def test_a_loaded_model_is_another_thing_than_one_that_must_be_loaded() -> None:
    latencies = Latencies()
    latencies.observe(here("tiny"), Seconds(20), NOW)
    assert latencies.expected(here("tiny").model, NOW, is_resident=True) is None
    assert latencies.expected(here("tiny").model, NOW, is_resident=False) == Seconds(20)
