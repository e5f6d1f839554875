"""Drafts are fed where that is faster, and nowhere else; what is not worth it is rarely tried."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.worker.draft_pace import (
    MOST_DRAFTED,
    Acceptance,
    DraftPace,
    StepKind,
    expected_tokens,
)

Machine = Callable[[StepKind], float]


def gpu(kind: StepKind) -> float:
    """Reads all its weights for each step, and has computing power to spare."""
    return 1 + 0.01 * kind.drafting * kind.length


def cpu(kind: StepKind) -> float:
    """Every token costs."""
    return float(kind.sequences + kind.drafting * kind.length)


def half_cpu(kind: StepKind) -> float:
    """Every further token costs half of the first."""
    return kind.sequences + 0.5 * kind.drafting * kind.length


def run(
    pace: DraftPace, machine: Machine, sequences: int, chances: list[float], steps: int
) -> Counter[StepKind]:
    seen: Counter[StepKind] = Counter()
    for _ in range(steps):
        kind = pace.choose(sequences, chances)
        pace.note(kind, machine(kind))
        seen[kind] += 1
    return seen


def test_without_a_measurement_nothing_is_drafted() -> None:
    pace = DraftPace()
    assert pace.choose(1, [0.9]) == StepKind(1)
    for _ in range(3):
        pace.note(StepKind(1), 1)
    assert pace.choose(1, [0.9]).drafting == 1


def test_steps_that_take_no_time_are_not_shortened() -> None:
    assert set(run(DraftPace(), lambda _: 0.0, 1, [0.9], 50)) == {StepKind(1)}


def test_where_tokens_are_free_drafts_are_long_if_they_are_mostly_right() -> None:
    seen = run(DraftPace(), gpu, 1, [0.95], 300)
    (kind, count), *_ = seen.most_common()
    assert kind == StepKind(1, 1, 16)
    assert count > 250


def test_a_step_without_drafts_is_measured_now_and_then() -> None:
    pace = DraftPace()
    run(pace, gpu, 1, [0.95], 300)
    assert run(pace, gpu, 1, [0.95], 320)[StepKind(1)] in range(8, 12)


@pytest.mark.parametrize("chance", [0.3, 0.6, 0.9])
def test_where_every_token_costs_drafts_are_given_up_and_rarely_tried_again(chance: float) -> None:
    pace = DraftPace()
    first = run(pace, cpu, 1, [chance], 1000)
    later = run(pace, cpu, 1, [chance], 4000)
    assert first[StepKind(1)] > 950
    assert later[StepKind(1)] > 3970


def test_drafts_that_are_hardly_ever_right_are_not_even_tried() -> None:
    assert set(run(DraftPace(), gpu, 1, [0.1], 50)) == {StepKind(1)}


def test_a_machine_that_has_become_busy_or_idle_is_noticed() -> None:
    pace = DraftPace()
    assert run(pace, gpu, 1, [0.9], 200)[StepKind(1)] < 20
    run(pace, cpu, 1, [0.9], 300)
    assert run(pace, cpu, 1, [0.9], 300)[StepKind(1)] > 280
    run(pace, gpu, 1, [0.9], 2500)
    assert run(pace, gpu, 1, [0.9], 300)[StepKind(1)] < 30


def test_one_disturbed_measurement_decides_nothing() -> None:
    pace = DraftPace()
    run(pace, half_cpu, 1, [0.95], 100)
    (kind, _), *_ = run(pace, half_cpu, 1, [0.95], 100).most_common()
    assert kind.drafting
    pace.note(kind, 50.0)
    assert run(pace, half_cpu, 1, [0.95], 30)[kind] > 25


def test_a_small_advantage_is_not_enough_to_begin_and_enough_to_go_on() -> None:
    pace = DraftPace()

    def steady(kind: StepKind) -> float:
        return 1.0 if not kind.drafting else 1.75 if kind.length == 2 else 50.0

    begins = run(pace, steady, 1, [0.62], 100)  # 2.004 tokens: 1.14 times as fast
    assert begins[StepKind(1, 1, 2)] > 80
    goes_on = run(pace, steady, 1, [0.55], 100)  # 1.85 tokens: 1.06 times
    assert goes_on[StepKind(1, 1, 2)] > 80
    assert run(DraftPace(), steady, 1, [0.55], 100)[StepKind(1, 1, 2)] < 10


def test_who_has_no_draft_does_not_wait_much_longer_for_those_who_have() -> None:
    (kind, _), *_ = run(DraftPace(), half_cpu, 4, [0.97], 300).most_common()
    assert kind == StepKind(4, 1, 4)  # a draft of 16 would bring more, in steps of thrice the time
    (kind, _), *_ = run(DraftPace(), half_cpu, 1, [0.97], 300).most_common()
    assert kind == StepKind(1, 1, 8)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 20),
            st.lists(st.floats(0.01, 0.99), max_size=20),
            st.floats(0, 10),
        ),
        max_size=60,
    )
)
def test_no_step_has_more_drafts_than_sources_or_than_memory(
    steps: list[tuple[int, list[float], float]],
) -> None:
    pace = DraftPace()
    for sequences, chances, seconds in steps:
        kind = pace.choose(sequences, sorted(chances, reverse=True)[:sequences])
        assert kind.sequences == sequences
        assert 0 <= kind.drafting <= len(chances)
        assert 0 <= kind.drafting * kind.length <= MOST_DRAFTED
        assert bool(kind.drafting) == bool(kind.length)
        pace.note(kind, seconds)


@given(st.lists(st.booleans(), max_size=200))
def test_a_chance_stays_between_never_and_always(judged: list[bool]) -> None:
    acceptance = Acceptance()
    for is_right in judged:
        acceptance.note(is_right=is_right)
        assert 0 < acceptance.chance < 1


def test_the_latest_judgements_count_most() -> None:
    acceptance = Acceptance()
    for is_right in [False] * 100 + [True] * 20:
        acceptance.note(is_right=is_right)
    assert acceptance.chance > 0.85


def test_the_tokens_a_draft_brings_end_with_the_first_wrong_one() -> None:
    assert expected_tokens(0.5, 2) == 0.75
    assert expected_tokens(0.5, 16) == pytest.approx(1, abs=0.001)
