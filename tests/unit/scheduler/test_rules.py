"""The ten rules of the scheduler's seam, one test each or more, with literals and no event loop."""

import logging

import pytest

from tests.unit.scheduler.scenario import CAT, CRASH, DOG, GIB, OWL, Scenario, make_spec
from unified_llm.domain.errors import Closing, NoRoom
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.scheduler.policy import SchedulingPolicy


def test_rule_1_every_ticket_ends_in_exactly_one_of_granted_refused_cancelled() -> None:
    scene = Scenario(make_spec(CAT))
    served, waiting, leaving = scene.ask(CAT), scene.ask(CAT), scene.ask(CAT)
    scene.finish_load(CAT)
    scene.core.cancelled(leaving, scene.now)
    scene.core.closing(Seconds(5), scene.now)
    scene.give_back(served)
    scene.finish_stop(CAT)
    # FakeEffects itself refuses a second end of a ticket.
    assert set(scene.effects.granted) == {served}
    assert set(scene.effects.refused) == {waiting}
    assert scene.is_closed()


def test_rule_2_a_lease_is_counted_only_if_grant_said_true() -> None:
    scene = Scenario(make_spec(CAT))
    vanished, present = scene.ask(CAT), scene.ask(CAT)
    scene.effects.gone.add(vanished)
    scene.finish_load(CAT)
    assert scene.core.status(CAT).leases == 1
    assert present in scene.effects.granted


def test_rule_3_a_model_with_leases_out_is_drained_and_never_stopped_to_make_room() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    lease = scene.serve(CAT)
    scene.ask(DOG)
    scene.wait(scene.policy.turn)
    assert scene.state(CAT) is ModelState.DRAINING
    scene.wait(5 * scene.policy.drain_grace)
    assert scene.stopping == []
    scene.wait(scene.policy.turn)
    scene.give_back(lease)
    assert scene.stopping == [CAT]


def test_rule_4_an_answer_about_a_past_worker_does_not_gate_the_present_one() -> None:
    scene = Scenario(make_spec(CAT))
    scene.keep_idle(CAT)
    first = scene.generation(CAT)
    scene.unload(CAT)
    scene.finish_stop(CAT)
    ticket = scene.ask(CAT)
    scene.core.stop_finished(CAT, first, scene.now)
    scene.core.worker_died(CAT, first, CRASH, scene.now)
    scene.core.memory_returned(CAT, first, scene.now)
    assert scene.state(CAT) is ModelState.LOADING
    scene.finish_load(CAT)
    assert scene.effects.granted[ticket] == (CAT, scene.generation(CAT))


def test_rule_4_a_request_that_meets_a_stopping_model_is_served_by_its_next_worker() -> None:
    scene = Scenario(make_spec(CAT))
    scene.keep_idle(CAT)
    scene.unload(CAT)
    ticket = scene.ask(CAT)
    assert scene.state(CAT) is ModelState.STOPPING
    scene.finish_stop(CAT)
    scene.finish_load(CAT)
    assert scene.effects.granted[ticket] == (CAT, scene.generation(CAT))


def test_rule_5_a_load_already_begun_counts_as_resident_but_is_no_victim() -> None:
    scene = Scenario(make_spec(CAT, 5), make_spec(DOG, 5))
    scene.ask(CAT)
    scene.ask(DOG)
    assert scene.loading == [CAT]
    assert scene.stopping == []
    assert scene.state(DOG) is ModelState.QUEUED


def test_rule_6_asking_who_could_leave_is_silent_and_the_commitment_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    lease = scene.serve(CAT)
    scene.ask(DOG)
    caplog.set_level(logging.DEBUG)
    for _ in range(3):
        scene.core.woke(scene.now)
    assert caplog.records == []
    scene.give_back(lease)
    for _ in range(3):
        scene.core.woke(scene.now)
    assert [record.getMessage() for record in caplog.records] == ["stopping cat"]


def test_rule_7_after_a_stop_memory_is_free_when_a_reading_says_so_and_not_before() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    scene.keep_idle(CAT)
    scene.ask(DOG)
    scene.finish_stop(CAT, returned=False)
    assert scene.loading == [CAT]
    assert scene.core.memory_committed == 8 * GIB
    scene.core.memory_returned(CAT, scene.generation(CAT), scene.now)
    assert scene.loading == [CAT, DOG]


def test_rule_7_the_wait_for_memory_has_a_limit() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    scene.keep_idle(CAT)
    scene.ask(DOG)
    scene.finish_stop(CAT, returned=False)
    scene.wait(scene.policy.memory_return_limit)
    assert scene.loading == [CAT, DOG]


def test_rule_8_out_of_memory_on_load_is_tried_once_more_with_the_idle_models_evicted() -> None:
    scene = Scenario(make_spec(CAT, 2), make_spec(DOG, 2))
    scene.keep_idle(CAT)
    ticket = scene.ask(DOG)
    scene.finish_load(DOG, NoRoom("The kernel killed it at 1.9 GiB."))
    assert scene.stopping == [CAT]
    scene.finish_stop(DOG)
    assert scene.loading == [CAT, DOG]
    scene.finish_stop(CAT)
    assert scene.loading == [CAT, DOG, DOG]
    scene.finish_load(DOG)
    assert ticket in scene.effects.granted


def test_rule_8_out_of_memory_on_load_is_tried_once_more_smaller_and_then_refused() -> None:
    scene = Scenario(make_spec(CAT, 2, slots=4, cached_gib=1))
    ticket = scene.ask(CAT)
    scene.finish_load(CAT, NoRoom("The kernel killed it at 1.9 GiB."))
    scene.finish_stop(CAT)
    first, second = (load.placement for load in scene.effects.loads)
    assert second.ram_bytes <= 0.75 * first.ram_bytes
    assert second.sacrifices
    scene.finish_load(CAT, NoRoom("The kernel killed it at 1.8 GiB."))
    error = scene.effects.refused[ticket]
    assert isinstance(error, NoRoom)
    assert "1.4 GiB of ram were set aside" in error.message
    assert "1.8 GiB" in error.message


def test_rule_9_an_unload_for_whatever_reason_is_an_event_like_a_request() -> None:
    scene = Scenario(make_spec(CAT))
    lease = scene.serve(CAT)
    unload, waiting = scene.unload(CAT), scene.ask(CAT)
    assert scene.state(CAT) is ModelState.DRAINING
    scene.give_back(lease)
    scene.finish_stop(CAT)
    assert unload in scene.effects.granted
    scene.finish_load(CAT)
    assert waiting in scene.effects.granted


def test_rule_10_closing_refuses_waiters_lets_leases_end_and_then_stops_the_workers() -> None:
    policy = SchedulingPolicy(ram_budget=Bytes(16 * GIB))
    scene = Scenario(make_spec(CAT), make_spec(DOG), make_spec(OWL), policy=policy)
    long, waiting = scene.serve(CAT), scene.ask(CAT)
    short = scene.serve(DOG)
    scene.keep_idle(OWL)
    scene.core.closing(Seconds(20), scene.now)
    late = scene.ask(OWL)
    assert isinstance(scene.effects.refused[waiting], Closing)
    assert isinstance(scene.effects.refused[late], Closing)
    assert scene.stopping == [OWL]
    scene.give_back(short)
    assert scene.stopping == [OWL, DOG]
    scene.finish_stop(OWL)
    scene.finish_stop(DOG)
    scene.wait(19)
    assert scene.stopping == [OWL, DOG]
    scene.wait(1)
    assert scene.stopping == [OWL, DOG, CAT]
    assert not scene.is_closed()
    scene.finish_stop(CAT)
    assert scene.is_closed()
    assert long in scene.effects.granted
