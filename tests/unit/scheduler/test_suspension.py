"""The memory is emptied in time, and stays empty."""

from tests.unit.scheduler.scenario import CAT, DOG, OWL, Scenario, make_spec
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds


def scene_of(*models: ModelId) -> Scenario:
    return Scenario(*(make_spec(model, 2, slots=2) for model in models))


def suspend(scene: Scenario, seconds: float = 4) -> frozenset[ModelId]:
    return scene.core.suspended(Seconds(seconds), scene.now)


def test_what_is_idle_or_loading_leaves_at_once_and_what_served_is_told() -> None:
    scene = scene_of(CAT, DOG)
    scene.keep_idle(CAT)
    scene.ask(DOG)
    assert suspend(scene) == {CAT}
    assert set(scene.stopping) == {CAT, DOG}


def test_running_answers_get_half_of_the_time() -> None:
    scene = scene_of(CAT)
    lease = scene.serve(CAT)
    suspend(scene)
    assert scene.state(CAT) is ModelState.DRAINING
    scene.wait(1.9)
    assert scene.stopping == []
    scene.give_back(lease)
    assert scene.stopping == [CAT]


def test_an_answer_that_does_not_end_is_broken() -> None:
    scene = scene_of(CAT)
    scene.serve(CAT)
    suspend(scene)
    scene.wait(2.0)
    assert scene.stopping == [CAT]


def test_a_worker_that_does_not_go_is_killed_after_three_quarters() -> None:
    scene = scene_of(CAT)
    scene.keep_idle(CAT)
    suspend(scene)
    scene.wait(2.9)
    assert [stop.grace for stop in scene.effects.stops] == [scene.policy.stop_grace]
    scene.wait(0.1)
    assert [stop.grace for stop in scene.effects.stops][1:] == [0.0]


def test_memory_is_empty_only_when_a_reading_says_so() -> None:
    scene = scene_of(CAT)
    scene.keep_idle(CAT)
    suspend(scene)
    assert not scene.core.is_empty
    scene.finish_stop(CAT, returned=False)
    assert not scene.core.is_empty
    scene.core.memory_returned(CAT, scene.generation(CAT), scene.now)
    assert scene.core.is_empty


def test_who_asks_meanwhile_waits_and_is_served_afterwards() -> None:
    scene = scene_of(CAT, OWL)
    suspend(scene)
    ticket = scene.ask(CAT)
    scene.wait(60)
    assert scene.loading == []
    assert ticket not in scene.effects.refused
    scene.core.resumed(scene.now)
    scene.finish_load(CAT)
    assert ticket in scene.effects.granted


def test_a_sleep_that_does_not_come_takes_nothing_back() -> None:
    scene = scene_of(CAT)
    lease = scene.serve(CAT)
    suspend(scene)
    scene.core.resumed(scene.now)
    waiting = scene.ask(CAT)
    scene.give_back(lease)
    scene.finish_stop(CAT)
    scene.finish_load(CAT)
    assert waiting in scene.effects.granted
    scene.wait(30)
    assert scene.stopping == [CAT], "the kill of the suspension outlived it"
