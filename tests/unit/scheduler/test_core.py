from tests.unit.scheduler.scenario import (
    ANNA,
    BERT,
    CAT,
    CRASH,
    DOG,
    GIB,
    OWL,
    Scenario,
    make_spec,
)
from unified_llm.domain.errors import (
    ModelFailedToLoad,
    NoRoom,
    QueueFull,
    RequestTimedOut,
    UnknownModel,
)
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.scheduler.policy import SchedulingPolicy

REFUSAL = ModelFailedToLoad("tensor 'output' has an unknown type")


def big_policy(*, queue_limit: int = 64, failure_window: float = 600) -> SchedulingPolicy:
    return SchedulingPolicy(
        ram_budget=Bytes(64 * GIB),
        queue_limit=queue_limit,
        failure_window=Seconds(failure_window),
    )


def test_a_model_is_loaded_on_demand_and_granted_when_it_serves() -> None:
    scene = Scenario(make_spec(CAT, slots=2))
    assert scene.loading == []
    ticket = scene.ask(CAT)
    (load,) = scene.effects.loads
    assert load.placement.ram_bytes == 4 * GIB
    assert (load.placement.context_tokens, load.placement.slots) == (4096, 2)
    assert scene.effects.granted == {}
    scene.finish_load(CAT)
    assert scene.effects.granted == {ticket: (CAT, load.generation)}


def test_an_unknown_model_is_refused_at_once_and_the_nearest_name_is_told() -> None:
    scene = Scenario(make_spec(ModelId("smollm2")))
    ticket = scene.ask(ModelId("smolm2"))
    error = scene.effects.refused[ticket]
    assert isinstance(error, UnknownModel)
    assert "'smollm2'" in error.hint


def test_a_model_with_a_defect_is_refused_with_the_defect() -> None:
    scene = Scenario(make_spec(CAT, identity=None, defect="it is not a GGUF file"))
    assert scene.state(CAT) is ModelState.ABSENT
    error = scene.effects.refused[scene.ask(CAT)]
    assert isinstance(error, ModelFailedToLoad)
    assert "it is not a GGUF file" in error.message


def test_leases_beyond_the_slots_wait_here() -> None:
    scene = Scenario(make_spec(CAT, slots=2))
    first, second, third = scene.ask(CAT), scene.ask(CAT), scene.ask(CAT)
    scene.finish_load(CAT)
    assert set(scene.effects.granted) == {first, second}
    scene.give_back(first)
    assert third in scene.effects.granted


def test_principals_are_served_in_turn() -> None:
    scene = Scenario(make_spec(CAT))
    lease = scene.serve(CAT, ANNA)
    annas = [scene.ask(CAT, ANNA) for _ in range(3)]
    berts = scene.ask(CAT, BERT)
    order = []
    for _ in range(4):
        scene.give_back(lease)
        lease = list(scene.effects.granted)[-1]
        order.append(lease)
    assert order == [annas[0], berts, annas[1], annas[2]]


def test_a_full_queue_refuses_with_the_numbers_and_a_time() -> None:
    scene = Scenario(make_spec(CAT), policy=big_policy(queue_limit=2))
    scene.ask(CAT)
    scene.ask(CAT)
    error = scene.effects.refused[scene.ask(CAT)]
    assert isinstance(error, QueueFull)
    assert "2 requests wait" in error.message
    assert error.retry_after == scene.policy.full_queue_retry


def test_one_principal_can_not_take_all_places_of_a_queue() -> None:
    scene = Scenario(make_spec(CAT), policy=big_policy(queue_limit=3))
    annas = [scene.ask(CAT, ANNA) for _ in range(3)]
    berts = scene.ask(CAT, BERT)
    assert isinstance(scene.effects.refused[annas[-1]], QueueFull)
    assert berts not in scene.effects.refused
    again = scene.ask(CAT, BERT)
    assert isinstance(scene.effects.refused[again], QueueFull)


def test_a_request_gives_up_at_its_deadline_with_the_numbers() -> None:
    scene = Scenario(make_spec(CAT))
    ticket = scene.ask(CAT, patience=30)
    scene.wait(29)
    assert ticket not in scene.effects.refused
    scene.wait(1)
    error = scene.effects.refused[ticket]
    assert isinstance(error, RequestTimedOut)
    assert "30.0 s" in error.message
    assert "loading" in error.message
    assert scene.core.status(CAT).waiting == 0


def test_a_load_goes_on_although_all_who_waited_have_left() -> None:
    scene = Scenario(make_spec(CAT))
    scene.core.cancelled(scene.ask(CAT), scene.now)
    scene.finish_load(CAT)
    assert scene.state(CAT) is ModelState.READY


def test_a_lease_granted_to_a_caller_that_is_cancelled_is_returned() -> None:
    scene = Scenario(make_spec(CAT))
    lease, waiting = scene.serve(CAT), scene.ask(CAT)
    scene.core.cancelled(lease, scene.now)
    scene.core.lease_returned(lease, scene.now)
    assert waiting in scene.effects.granted
    assert scene.core.status(CAT).leases == 1


# Making room.


def test_the_longest_idle_model_leaves_and_only_as_many_as_must() -> None:
    scene = Scenario(make_spec(CAT), make_spec(DOG), make_spec(OWL))
    scene.keep_idle(DOG)
    scene.wait(1)
    scene.keep_idle(CAT)
    scene.wait(1)
    scene.ask(OWL)
    assert scene.stopping == [DOG]
    scene.finish_stop(DOG)
    assert scene.loading == [DOG, CAT, OWL]


def test_a_model_that_can_never_fit_is_refused_at_once_with_the_numbers() -> None:
    scene = Scenario(make_spec(CAT, 9))
    error = scene.effects.refused[scene.ask(CAT)]
    assert isinstance(error, NoRoom)
    assert "9.0 GiB" in error.message
    assert "8.0 GiB" in error.message
    assert scene.state(CAT) is ModelState.AVAILABLE


def test_a_pinned_model_never_leaves_and_counts_against_others_at_once() -> None:
    scene = Scenario(make_spec(CAT, 5, pinned=True), make_spec(DOG, 5))
    scene.keep_idle(CAT)
    error = scene.effects.refused[scene.ask(DOG)]
    assert isinstance(error, NoRoom)
    assert "Models that must stay hold 5.0 GiB of ram" in error.message
    assert scene.stopping == []


def test_requests_for_the_loaded_model_are_served_before_a_swap() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    lease = scene.serve(CAT)
    scene.ask(DOG)
    second = scene.ask(CAT)
    scene.wait(scene.policy.turn - 1)
    scene.give_back(lease)
    assert second in scene.effects.granted
    assert scene.stopping == []


def test_a_busy_model_yields_when_another_has_waited_for_a_turn() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    lease = scene.serve(CAT)
    other = scene.ask(DOG)
    scene.wait(scene.policy.turn)
    late = scene.ask(CAT)
    assert scene.state(CAT) is ModelState.DRAINING
    scene.give_back(lease)
    assert late not in scene.effects.granted
    scene.finish_stop(CAT)
    scene.finish_load(DOG)
    assert other in scene.effects.granted
    assert scene.state(CAT) is ModelState.QUEUED


def test_after_a_swap_a_model_serves_for_a_turn_however_long_others_wait() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    lease = scene.serve(CAT)
    other = scene.ask(DOG)
    scene.wait(scene.policy.turn)
    scene.ask(CAT)
    scene.give_back(lease)
    scene.finish_stop(CAT)
    scene.wait(2)
    scene.finish_load(DOG)
    assert other in scene.effects.granted
    scene.wait(scene.policy.turn - 1)
    assert scene.state(DOG) is ModelState.READY
    scene.wait(1)
    assert scene.state(DOG) is ModelState.DRAINING


def test_a_drain_for_room_is_taken_back_when_nobody_wants_the_room_any_more() -> None:
    scene = Scenario(make_spec(CAT, 8, slots=2), make_spec(DOG, 8))
    scene.serve(CAT)
    other = scene.ask(DOG)
    scene.wait(scene.policy.turn)
    waiting = scene.ask(CAT)
    scene.core.cancelled(other, scene.now)
    assert scene.state(CAT) is ModelState.READY
    assert waiting in scene.effects.granted


def test_small_models_do_not_slip_past_a_large_one_that_waits_for_room() -> None:
    scene = Scenario(make_spec(CAT, 6), make_spec(DOG, 8), make_spec(OWL, 2))
    lease = scene.serve(CAT)
    scene.ask(DOG)
    scene.ask(OWL)
    assert scene.loading == [CAT]
    scene.wait(scene.policy.turn)
    scene.give_back(lease)
    scene.finish_stop(CAT)
    assert scene.loading == [CAT, DOG]


def test_what_is_left_beside_a_promise_is_given_to_others_meanwhile() -> None:
    scene = Scenario(make_spec(CAT, 5), make_spec(DOG, 5), make_spec(OWL, 2))
    scene.keep_idle(CAT)
    scene.ask(DOG)
    scene.ask(OWL)
    assert scene.stopping == [CAT]
    assert scene.loading == [CAT, OWL]


# Unloading.


def test_an_idle_model_leaves_after_its_keep_alive() -> None:
    scene = Scenario(make_spec(CAT, keep_alive=300), make_spec(DOG))
    scene.keep_idle(CAT)
    scene.keep_idle(DOG)
    scene.wait(200)
    scene.keep_idle(CAT)
    scene.wait(299)
    assert scene.stopping == []
    scene.wait(1)
    assert scene.stopping == [CAT]
    scene.finish_stop(CAT)
    scene.wait(100_000)
    assert scene.stopping == [CAT]
    assert scene.effects.wake is None


def test_a_model_in_use_outlives_its_keep_alive() -> None:
    scene = Scenario(make_spec(CAT, keep_alive=300))
    scene.serve(CAT)
    scene.wait(1000)
    assert scene.stopping == []


def test_unloading_a_model_that_is_not_loaded_is_done_at_once() -> None:
    scene = Scenario(make_spec(CAT))
    assert scene.unload(CAT) in scene.effects.granted
    assert isinstance(scene.effects.refused[scene.unload(DOG)], UnknownModel)


def test_an_unload_breaks_leases_only_after_the_grace() -> None:
    scene = Scenario(make_spec(CAT))
    scene.serve(CAT)
    unload = scene.unload(CAT)
    scene.wait(scene.policy.drain_grace - 1)
    assert scene.stopping == []
    scene.wait(1)
    assert scene.stopping == [CAT]
    assert unload not in scene.effects.granted
    scene.finish_stop(CAT)
    assert unload in scene.effects.granted
    assert scene.core.status(CAT).leases == 0


def test_an_unload_ends_a_load_and_who_waited_is_served_by_the_next() -> None:
    scene = Scenario(make_spec(CAT))
    ticket = scene.ask(CAT)
    unload = scene.unload(CAT)
    scene.finish_load(CAT)
    assert ticket not in scene.effects.granted
    scene.finish_stop(CAT)
    assert unload in scene.effects.granted
    scene.finish_load(CAT)
    assert ticket in scene.effects.granted


def test_an_unload_gives_up_at_its_deadline() -> None:
    scene = Scenario(make_spec(CAT))
    scene.serve(CAT)
    unload = scene.unload(CAT, patience=5)
    scene.wait(5)
    assert isinstance(scene.effects.refused[unload], RequestTimedOut)


# Failing.


def test_a_failed_load_tells_those_who_wait_what_the_worker_said() -> None:
    scene = Scenario(make_spec(CAT))
    ticket = scene.ask(CAT)
    scene.finish_load(CAT, REFUSAL)
    error = scene.effects.refused[ticket]
    assert isinstance(error, ModelFailedToLoad)
    assert "unknown type" in error.message
    assert error.retry_after == 1.0
    scene.finish_stop(CAT)
    assert scene.state(CAT) is ModelState.AVAILABLE
    assert scene.core.status(CAT).last_error == (REFUSAL.code, REFUSAL.message)


def test_a_load_that_takes_too_long_is_killed() -> None:
    scene = Scenario(make_spec(CAT))
    ticket = scene.ask(CAT, patience=9999)
    scene.wait(scene.policy.load_deadline)
    assert isinstance(scene.effects.refused[ticket], ModelFailedToLoad)
    (stop,) = scene.effects.stops
    assert stop.grace == Seconds(0)
    scene.finish_stop(CAT)
    assert scene.state(CAT) is ModelState.AVAILABLE


def test_after_a_death_the_waiting_stay_and_are_served_after_a_backoff() -> None:
    scene = Scenario(make_spec(CAT))
    dead, waiting = scene.serve(CAT), scene.ask(CAT)
    scene.die(CAT)
    assert scene.state(CAT) is ModelState.QUEUED
    scene.core.lease_returned(dead, scene.now)
    assert scene.loading == [CAT]
    scene.wait(1)
    assert scene.loading == [CAT, CAT]
    scene.finish_load(CAT)
    assert waiting in scene.effects.granted
    assert scene.core.status(CAT).leases == 1


def test_the_backoff_doubles_with_each_death() -> None:
    scene = Scenario(make_spec(CAT))
    for delay in (1, 2, 4, 8):
        scene.ask(CAT)
        scene.finish_load(CAT)
        scene.ask(CAT)
        scene.die(CAT)
        loads = len(scene.loading)
        scene.wait(delay - 0.5)
        assert len(scene.loading) == loads
        scene.wait(0.5)
        assert len(scene.loading) == loads + 1


def fail(scene: Scenario, times: int) -> None:
    for _ in range(times):
        scene.ask(CAT)
        scene.wait(300)
        scene.finish_load(CAT, REFUSAL)
        scene.finish_stop(CAT)


def test_five_failures_in_the_window_fail_the_model_and_requests_are_refused_fast() -> None:
    scene = Scenario(make_spec(CAT), policy=big_policy(failure_window=10_000))
    fail(scene, 5)
    assert scene.state(CAT) is ModelState.FAILED
    error = scene.effects.refused[scene.ask(CAT)]
    assert isinstance(error, ModelFailedToLoad)
    assert error.retry_after == Seconds(10_000 - 4 * 300)
    assert "by hand" in error.hint
    assert len(scene.loading) == 5


def test_a_failed_model_is_tried_again_when_the_window_has_passed() -> None:
    scene = Scenario(make_spec(CAT), policy=big_policy(failure_window=10_000))
    fail(scene, 5)
    scene.wait(10_000 - 4 * 300)
    assert scene.state(CAT) is ModelState.AVAILABLE
    scene.ask(CAT)
    assert len(scene.loading) == 6


def test_a_failed_model_is_tried_again_by_hand() -> None:
    scene = Scenario(make_spec(CAT), policy=big_policy(failure_window=10_000))
    fail(scene, 5)
    ticket = scene.ask(CAT, by_hand=True)
    assert scene.state(CAT) is ModelState.LOADING
    scene.finish_load(CAT)
    assert ticket in scene.effects.granted


def test_a_request_that_would_give_up_before_the_backoff_ends_is_refused_at_once() -> None:
    scene = Scenario(make_spec(CAT))
    scene.serve(CAT)
    scene.die(CAT)
    error = scene.effects.refused[scene.ask(CAT, patience=0.5)]
    assert isinstance(error, ModelFailedToLoad)
    assert error.retry_after == 1.0


def test_a_worker_that_does_not_go_is_killed_again_and_reported_stuck() -> None:
    scene = Scenario(make_spec(CAT, 5), make_spec(DOG, 5))
    scene.keep_idle(CAT)
    scene.unload(CAT)
    other = scene.ask(DOG)
    scene.wait(scene.policy.stop_grace + scene.policy.stop_deadline)
    assert [stop.grace for stop in scene.effects.stops] == [scene.policy.stop_grace, 0]
    _, text = scene.core.status(CAT).last_error or ("", "")
    assert "not gone" in text
    # Its memory is as good as lost, so that others are told instead of left waiting.
    assert isinstance(scene.effects.refused[other], NoRoom)
    scene.finish_stop(CAT)
    scene.ask(DOG)
    assert scene.state(DOG) is ModelState.LOADING


def test_a_worker_that_ends_unasked_counts_as_dead() -> None:
    scene = Scenario(make_spec(CAT))
    scene.serve(CAT)
    scene.core.stop_finished(CAT, scene.generation(CAT), scene.now)
    assert scene.state(CAT) is ModelState.AVAILABLE
    assert scene.core.status(CAT).last_error is not None


# The catalogue, and what is announced.


def test_a_vanished_model_is_drained_stopped_and_forgotten() -> None:
    scene = Scenario(make_spec(CAT), make_spec(DOG))
    lease, waiting = scene.serve(CAT), scene.ask(CAT)
    scene.core.catalogue({DOG: make_spec(DOG)}, scene.now)
    assert isinstance(scene.effects.refused[waiting], UnknownModel)
    assert isinstance(scene.effects.refused[scene.ask(CAT)], UnknownModel)
    assert scene.stopping == []
    scene.give_back(lease)
    scene.finish_stop(CAT)
    assert [status.id for status in scene.core.statuses()] == [DOG]
    assert scene.effects.statuses[-1].state is ModelState.ABSENT


def test_a_model_that_comes_back_never_reuses_a_generation() -> None:
    scene = Scenario(make_spec(CAT))
    scene.keep_idle(CAT)
    first = scene.generation(CAT)
    scene.core.catalogue({}, scene.now)
    scene.finish_stop(CAT)
    scene.core.catalogue({CAT: make_spec(CAT)}, scene.now)
    scene.ask(CAT)
    assert scene.generation(CAT) > first


def test_a_changed_model_is_loaded_as_changed_the_next_time() -> None:
    scene = Scenario(make_spec(CAT, slots=1))
    scene.keep_idle(CAT)
    scene.core.catalogue({CAT: make_spec(CAT, slots=3)}, scene.now)
    assert scene.core.status(CAT).state is ModelState.READY
    scene.unload(CAT)
    scene.finish_stop(CAT)
    scene.ask(CAT)
    assert scene.effects.loads[-1].placement.slots == 3


def test_a_model_becomes_available_when_its_file_is_there() -> None:
    scene = Scenario(make_spec(CAT, identity=None))
    scene.core.catalogue({CAT: make_spec(CAT)}, scene.now)
    assert scene.state(CAT) is ModelState.AVAILABLE
    scene.core.catalogue({CAT: make_spec(CAT, identity=None)}, scene.now)
    assert scene.state(CAT) is ModelState.ABSENT


def test_a_new_file_clears_the_failures_of_the_old() -> None:
    scene = Scenario(make_spec(CAT), policy=big_policy(failure_window=10_000))
    fail(scene, 5)
    scene.core.catalogue({CAT: make_spec(CAT, 2)}, scene.now)
    assert scene.state(CAT) is ModelState.AVAILABLE


def test_each_state_is_announced_once_and_progress_by_whole_percents() -> None:
    scene = Scenario(make_spec(CAT))
    scene.ask(CAT)
    generation = scene.generation(CAT)
    for fraction in (0.1, 0.101, 0.5, 0.2, float("nan"), 7.0):
        scene.core.load_progressed(CAT, generation, fraction, scene.now)
    scene.finish_load(CAT)
    assert [(status.state, status.progress) for status in scene.effects.statuses] == [
        (ModelState.AVAILABLE, None),
        (ModelState.QUEUED, None),
        (ModelState.LOADING, 0.0),
        (ModelState.LOADING, 0.1),
        (ModelState.LOADING, 0.5),
        (ModelState.LOADING, 1.0),
        (ModelState.READY, None),
    ]


def test_an_idle_scheduler_asks_for_no_wake_up() -> None:
    scene = Scenario(make_spec(CAT))
    scene.keep_idle(CAT)
    assert scene.effects.wake is None


def test_a_death_in_closing_leaves_nothing_behind() -> None:
    scene = Scenario(make_spec(CAT))
    scene.serve(CAT)
    scene.core.closing(Seconds(30), scene.now)
    scene.die(CAT, CRASH)
    assert scene.core.is_closed
