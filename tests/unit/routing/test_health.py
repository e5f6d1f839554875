"""Each provider has a breaker for each kind of trouble."""

import pytest

from unified_llm.domain.errors import (
    ContentFiltered,
    InvalidRequest,
    LocalOnly,
    ProviderDenied,
    ProviderDown,
    ProviderFailed,
    ProviderOverloaded,
    UnifiedLlmError,
    concrete_errors,
)
from unified_llm.domain.units import Instant, Seconds
from unified_llm.routing.breaker import BreakerPolicy, BreakerState
from unified_llm.routing.health import TROUBLES, Health, Trouble

NOW, THEN = Instant(0.0), Instant(10.0)
DOWN, BROKEN = ProviderDown("Down."), ProviderFailed("Broke.")


def make_health() -> Health:
    policy = BreakerPolicy(failures=2, pause=Seconds(10))
    return Health(["far", "near"], policy, lambda: 1.0)


def fail(health: Health, *errors: UnifiedLlmError, now: Instant = NOW) -> None:
    for error in errors:
        health.begin("far", now).failed(error, now)


def test_failures_of_different_kinds_do_not_add_up() -> None:
    health = make_health()
    fail(health, DOWN, BROKEN)
    assert health.refusal("far", NOW) is None
    fail(health, DOWN)
    refusal = health.refusal("far", NOW)
    assert refusal is not None
    assert refusal.message == "Provider far is not asked for 10.0 s more: it is unreachable."
    assert refusal.retry_after == Seconds(10)
    assert health.refusal("near", NOW) is None
    assert health.complaints(NOW) == ("provider far is unreachable and not asked for 10 s more",)


def test_another_policy_judges_what_comes_and_frees_nobody() -> None:
    health = make_health()
    fail(health, BROKEN, BROKEN)
    health.follow(BreakerPolicy(failures=3, pause=Seconds(20)))
    assert health.refusal("far", NOW) is not None
    fail(health, DOWN, DOWN, now=THEN)
    assert health.standings(THEN)[0].trouble is not Trouble.UNREACHABLE
    fail(health, DOWN, now=THEN)
    assert health.free_at("far", THEN) == Instant(THEN + 20)
    again = make_health()
    again.follow(BreakerPolicy(failures=3))
    fail(again, ProviderDenied("Wrong key."))
    assert again.standings(NOW)[0].trouble is Trouble.DENYING


def test_a_denial_counts_at_once() -> None:
    health = make_health()
    fail(health, ProviderDenied("Wrong key."))
    assert [each.trouble for each in health.standings(NOW)] == [Trouble.DENYING, None]


def test_one_request_tries_and_content_lets_the_others_in() -> None:
    health = make_health()
    fail(health, DOWN, DOWN)
    trying = health.begin("far", THEN)
    with pytest.raises(ProviderOverloaded, match="until another request has tried it"):
        health.begin("far", THEN)
    trying.began(THEN)
    assert health.refusal("far", THEN) is None
    assert health.standings(THEN)[0].state is BreakerState.CLOSED


def test_a_try_that_fails_otherwise_says_nothing_of_the_first_trouble() -> None:
    health = make_health()
    fail(health, DOWN, DOWN)
    fail(health, BROKEN, now=THEN)
    assert health.standings(THEN)[0].state is BreakerState.HALF_OPEN
    assert health.refusal("far", THEN) is None


def test_whoever_leaves_without_a_word_lets_the_next_one_try() -> None:
    health = make_health()
    fail(health, DOWN, DOWN)
    health.begin("far", THEN).end()
    assert health.refusal("far", THEN) is None


def test_an_error_of_the_request_says_that_the_provider_is_well() -> None:
    health = make_health()
    fail(health, DOWN, ContentFiltered("No."), DOWN)
    assert health.refusal("far", NOW) is None


@pytest.mark.parametrize("ours", [InvalidRequest("Not with this one."), LocalOnly("Stays.")])
def test_what_was_refused_before_it_was_sent_says_nothing(ours: UnifiedLlmError) -> None:
    health = make_health()
    fail(health, DOWN, ours)
    assert health.refusal("far", NOW) is None
    fail(health, DOWN)
    assert health.refusal("far", NOW) is not None
    fail(health, ours, now=THEN)
    assert health.standings(THEN)[0].state is BreakerState.HALF_OPEN
    assert health.refusal("far", THEN) is None


def test_an_answer_that_breaks_off_again_and_again_is_a_failure_all_the_same() -> None:
    health = make_health()
    for _ in range(2):
        visit = health.begin("far", NOW)
        visit.began(NOW)
        visit.failed(BROKEN, NOW)
        visit.end()
    assert health.refusal("far", NOW) is not None


def test_this_machine_has_no_breakers() -> None:
    health = make_health()
    for _ in range(9):
        health.begin("local", NOW).failed(BROKEN, NOW)
    assert health.refusal("local", NOW) is None


def test_every_error_of_a_provider_is_thought_about() -> None:
    """One that is added is trouble, or says that the provider is well."""
    well = {"provider-refused"}
    theirs = {error.code for error in concrete_errors() if error.code.startswith("provider-")}
    assert theirs - well == {error.code for error in TROUBLES} - {"request-timed-out"}
