"""What a load would take, told before anybody asks for it."""

from dataclasses import replace

import pytest

from tests.unit.scheduler.scenario import CAT, DOG, GIB, OWL, Scenario, make_spec
from unified_llm.domain.arrival import Arrival
from unified_llm.domain.errors import Inhibited
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.scheduler.policy import SchedulingPolicy


def forecast(scene: Scenario, model: ModelId) -> Arrival:
    return scene.core.room.forecast(model, scene.now)


def load(scene: Scenario, model: ModelId, seconds: float) -> None:
    """A load that takes so long, for a request that ends at once."""
    ticket = scene.ask(model)
    scene.wait(seconds)
    scene.finish_load(model)
    scene.give_back(ticket)


def test_a_model_that_serves_takes_nothing() -> None:
    scene = Scenario(make_spec(CAT))
    load(scene, CAT, 3)
    assert forecast(scene, CAT) == Arrival(Seconds(0), ())


def test_what_was_never_loaded_takes_nobody_knows_how_long() -> None:
    assert forecast(Scenario(make_spec(CAT)), CAT) == Arrival(None, ())


def test_loading_takes_as_long_as_it_took() -> None:
    scene = Scenario(make_spec(CAT))
    load(scene, CAT, 3)
    scene.unload(CAT)
    scene.finish_stop(CAT)
    assert forecast(scene, CAT) == Arrival(Seconds(3), ())
    scene.ask(CAT)
    scene.wait(2)
    assert scene.state(CAT) is ModelState.LOADING
    assert forecast(scene, CAT) == Arrival(Seconds(1), ())


def test_who_would_leave_is_named_and_stays() -> None:
    scene = Scenario(make_spec(CAT, 4), make_spec(OWL, 4), make_spec(DOG, 4))
    load(scene, CAT, 3)
    scene.wait(10)
    load(scene, OWL, 1)
    assert forecast(scene, DOG).leaving == (CAT,)
    assert scene.state(CAT) is scene.state(OWL) is ModelState.READY
    assert scene.stopping == []


def test_a_model_in_use_is_named_only_if_no_idle_one_will_do() -> None:
    scene = Scenario(make_spec(CAT, 4), make_spec(OWL, 4), make_spec(DOG, 4))
    scene.serve(CAT)
    load(scene, OWL, 1)
    assert forecast(scene, DOG).leaving == (OWL,)
    scene.serve(OWL)
    assert forecast(scene, DOG).leaving == (CAT,)


@pytest.mark.parametrize("obstacle", ["too large", "pinned", "inhibited", "defective"])
def test_where_there_would_be_no_room_nobody_would_leave(obstacle: str) -> None:
    policy = SchedulingPolicy(ram_budget=Bytes(8 * GIB))
    wanted = make_spec(DOG, 9 if obstacle == "too large" else 6)
    if obstacle == "defective":
        wanted = replace(wanted, profile=None)
    scene = Scenario(make_spec(CAT, 4, pinned=obstacle == "pinned"), wanted, policy=policy)
    load(scene, CAT, 1)
    if obstacle == "inhibited":
        scene.core.inhibited(None, scene.now, are_evictions_inhibited=True)
    assert forecast(scene, DOG).leaving is None


def test_a_hindrance_to_loading_is_not_a_lack_of_room() -> None:
    scene = Scenario(make_spec(CAT))
    scene.core.inhibited(Inhibited("No."), scene.now, are_evictions_inhibited=False)
    assert forecast(scene, CAT).leaving == ()
