"""What is asked next when a target did not answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.routing.targets import far, here, plan_of
from unified_llm.domain.errors import (
    Closing,
    ContentFiltered,
    NoRoom,
    ProviderDenied,
    ProviderDown,
    ProviderFailed,
    ProviderOverloaded,
    Quarantined,
    TooLarge,
    UnifiedLlmError,
    WorkerDied,
    concrete_errors,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.routing import Attempt, Route, Strategy
from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.routing.attempts import PASSING, AttemptPolicy, Attempts
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.plan import Wish, make_plan
from unified_llm.routing.retry_budget import RetryBudget

NOW = Instant(100.0)


def attempts(*candidates: Candidate, most: int = 9, budget: RetryBudget | None = None) -> Attempts:
    return Attempts(plan_of(*candidates), AttemptPolicy(most), budget or RetryBudget())


def run(trial: Attempts, *errors: UnifiedLlmError) -> list[str]:
    """The models asked when these errors come one after another, until nobody is asked."""
    found = []
    for error in errors:
        following = trial.next(NOW)
        if following is None:
            break
        found.append(str(following.candidate.model))
        if not trial.failed(error, NOW):
            break
    return found


def test_targets_are_asked_in_order_and_leave_a_trail() -> None:
    trial = attempts(far("a/x"), here("tiny"))
    assert run(trial, ProviderDown("Down."), NoRoom("Full.")) == ["a/x", "tiny"]
    assert trial.trail == (
        Attempt(ModelId("a/x"), "a", "provider-down"),
        Attempt(ModelId("tiny"), "local", "no-room"),
    )
    assert trial.next(NOW) is None


def test_what_could_have_been_asked_is_the_rest_of_the_route() -> None:
    trial = attempts(far("a/x"), here("tiny"), far("b/y"), far("c/z", obstacle=NoRoom("Full.")))
    run(trial, ProviderDown("Down."))
    trial.next(NOW)
    assert [each.model for each in trial.unasked] == ["b/y"]


def test_what_a_model_falls_back_to_is_not_as_good_as_itself() -> None:
    model, other = far("a/x"), far("b/y")
    route = Route(model.model, Strategy.IN_ORDER, (model.model, other.model))
    plan = make_plan(route, [model, other], Wish())
    assert Attempts(plan, AttemptPolicy(9), RetryBudget()).unasked == ()


@pytest.mark.parametrize("error", [Closing("Closing."), Quarantined("It kills workers.")])
def test_what_no_other_target_can_mend_ends_the_request(error: UnifiedLlmError) -> None:
    trial = attempts(far("a/x"), here("tiny"))
    assert run(trial, error, error) == ["a/x"]
    assert trial.verdict() is error


def test_a_request_that_killed_a_worker_goes_to_no_other_worker_here() -> None:
    trial = attempts(here("one"), here("two"), far("a/x"))
    assert run(trial, WorkerDied("Gone."), WorkerDied("Gone.")) == ["one", "a/x"]


def test_what_was_too_large_goes_to_larger_contexts_only() -> None:
    trial = attempts(
        here("s", context=8), here("same", context=8), here("l", context=9), far("a/unknown")
    )
    assert run(trial, *[TooLarge("Too large.")] * 4) == ["s", "l", "a/unknown"]


@pytest.mark.parametrize("error", [ProviderDown("Down."), ProviderDenied("No.")])
def test_a_provider_that_is_out_is_not_asked_for_another_model(error: UnifiedLlmError) -> None:
    assert run(attempts(far("a/x"), far("a/y"), far("b/z")), error, error) == ["a/x", "b/z"]
    single = ContentFiltered("No.")
    assert run(attempts(far("a/x"), far("a/y")), single, single) == ["a/x", "a/y"]


def test_attempts_are_counted() -> None:
    trial = attempts(*(here(name) for name in "abcdef"), most=3)
    assert run(trial, *[NoRoom("Full.")] * 6) == ["a", "b", "c"]


def test_without_a_budget_only_this_machine_is_asked_further() -> None:
    empty = RetryBudget(share=0, reserve=0)
    trial = attempts(far("a/x"), far("b/y"), here("tiny"), budget=empty)
    assert run(trial, *[ProviderFailed("Broke.")] * 3) == ["a/x", "tiny"]


def busy(seconds: float) -> ProviderOverloaded:
    return ProviderOverloaded("Busy.", retry_after=Seconds(seconds))


def test_who_said_when_to_come_back_is_asked_then_once_and_last() -> None:
    trial = attempts(far("a/x"), here("tiny"))
    assert run(trial, busy(2), NoRoom("Full.")) == ["a/x", "tiny"]
    again = trial.next(NOW)
    assert again is not None
    assert (again.candidate.model, again.moment) == ("a/x", later(NOW, Seconds(2)))
    trial.failed(busy(1), NOW)
    assert trial.next(NOW) is None


def test_nobody_is_waited_for_longer_than_patience_lasts() -> None:
    trial = attempts(far("a/x"))
    assert run(trial, busy(6)) == ["a/x"]
    assert trial.next(NOW) is None
    assert trial.verdict().retry_after == Seconds(6)


def test_the_verdict_tells_of_skipped_targets_too() -> None:
    trial = attempts(far("a/x", obstacle=ProviderDenied("Off.")), here("tiny"))
    assert run(trial, NoRoom("Full.")) == ["tiny"]
    assert trial.verdict().hint == "Tried for smart: tiny (no-room), a/x (provider-denied)."


def test_every_error_is_decided_on() -> None:
    """One that is added must be thought about: does another target help?"""
    ends = {
        "audit-unavailable", "authentication-dismissed", "authentication-required", "cancelled",
        "closing", "configuration", "disk-full", "internal", "local-only", "model-in-use",
        "not-permitted", "quarantined", "rate-limited", "store-unavailable", "unknown-object",
    }  # fmt: skip
    assert {error.code for error in concrete_errors()} == ends | {error.code for error in PASSING}


ERRORS = st.sampled_from(
    [
        ProviderDown("d"), ProviderFailed("f"), busy(1), busy(60), WorkerDied("w"), TooLarge("t"),
        NoRoom("n"), Closing("c"),
    ]
)  # fmt: skip
CANDIDATES = st.lists(
    st.one_of(
        st.builds(here, st.sampled_from("abcd"), context=st.none() | st.integers(1, 3)),
        st.builds(far, st.sampled_from(["p/x", "p/y", "q/z"])),
    ),
    unique_by=lambda each: each.model,
)


@given(CANDIDATES, st.lists(ERRORS, max_size=12), st.integers(1, 5))
def test_no_target_is_asked_more_than_twice_and_never_too_soon(
    candidates: list[Candidate], errors: list[UnifiedLlmError], most: int
) -> None:
    trial = attempts(*candidates, most=most)
    told: dict[str, Instant] = {}
    now, waits = NOW, 0
    for error in errors:
        following = trial.next(now)
        if following is None:
            break
        model = str(following.candidate.model)
        if following.moment is not None:
            waits += 1
            assert following.moment <= later(now, Seconds(5))
            now = max(now, following.moment)
        assert now >= told.get(model, NOW)
        if error.retry_after is not None:
            told[model] = later(now, error.retry_after)
        if not trial.failed(error, now):
            break
    asked = [attempt.model for attempt in trial.trail]
    assert len(asked) <= most
    assert waits <= 1
    assert len(asked) - len(set(asked)) <= 1
