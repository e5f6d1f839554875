"""A machine that is short of something keeps less in memory."""

from tests.unit.scheduler.scenario import CAT, DOG, OWL, Scenario, make_spec
from unified_llm.domain.units import Seconds


def test_idle_models_leave_sooner_on_battery_and_pinned_ones_do_not() -> None:
    scene = Scenario(
        make_spec(CAT, 2), make_spec(DOG, 2, keep_alive=600), make_spec(OWL, 2, pinned=True)
    )
    for model in (CAT, DOG, OWL):
        scene.keep_idle(model)
    scene.wait(30)
    scene.core.idleness_limited(Seconds(60), scene.now)
    scene.wait(29)
    assert scene.stopping == []
    scene.wait(2)
    assert set(scene.stopping) == {CAT, DOG}


def test_a_shorter_keep_alive_stays_and_the_limit_ends_with_the_battery() -> None:
    scene = Scenario(make_spec(CAT, 2, keep_alive=10), make_spec(DOG, 2, keep_alive=600))
    scene.core.idleness_limited(Seconds(60), scene.now)
    for model in (CAT, DOG):
        scene.keep_idle(model)
    scene.wait(11)
    assert scene.stopping == [CAT]
    scene.finish_stop(CAT)
    scene.core.idleness_limited(None, scene.now)
    scene.wait(500)
    assert scene.stopping == [CAT]


def test_a_model_in_use_stays() -> None:
    scene = Scenario(make_spec(CAT, 2))
    lease = scene.serve(CAT)
    scene.core.idleness_limited(Seconds(60), scene.now)
    scene.wait(600)
    assert scene.stopping == []
    scene.give_back(lease)
    scene.wait(61)
    assert scene.stopping == [CAT]


def test_under_pressure_one_idle_model_leaves_at_a_time_the_least_missed_first() -> None:
    scene = Scenario(
        make_spec(CAT, 2, priority=60), make_spec(DOG, 2), make_spec(OWL, 2, pinned=True)
    )
    for model in (CAT, DOG, OWL):
        scene.keep_idle(model)
    scene.core.memory_short(scene.now)
    assert scene.stopping == [DOG]
    scene.core.memory_short(scene.now)
    assert scene.stopping == [DOG, CAT]
    scene.core.memory_short(scene.now)
    assert scene.stopping == [DOG, CAT]


def test_pressure_breaks_no_answer() -> None:
    scene = Scenario(make_spec(CAT, 2))
    scene.serve(CAT)
    scene.core.memory_short(scene.now)
    assert scene.stopping == []
