"""One model takes the place of another, and no request is dropped."""

from tests.unit.scheduler.scenario import ANNA, CAT, DOG, GIB, OWL, Scenario, make_spec
from tests.unit.scheduler.test_turns import converse, load
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.units import Bytes, Instant
from unified_llm.scheduler.effects import Ticket
from unified_llm.scheduler.policy import SchedulingPolicy


def leave_patiently(scene: Scenario, number: int = 900) -> Ticket:
    ticket, give_up_at = Ticket(number), Instant(scene.now + 600)
    scene.core.unload_asked(ticket, CAT, ANNA, give_up_at, scene.now, is_patient=True)
    return ticket


def test_who_waits_is_answered_before_the_model_leaves() -> None:
    scene = Scenario(make_spec(CAT))
    lease = scene.serve(CAT)
    waiting = scene.ask(CAT)
    gone = leave_patiently(scene)
    scene.wait(5 * scene.policy.drain_grace)
    assert scene.stopping == []
    scene.give_back(lease)
    assert waiting in scene.effects.granted
    assert scene.stopping == []
    scene.give_back(waiting)
    assert scene.stopping == [CAT]
    scene.finish_stop(CAT)
    assert gone in scene.effects.granted


def test_an_idle_model_leaves_at_once_and_one_that_is_not_there_has_left() -> None:
    scene = Scenario(make_spec(CAT))
    assert leave_patiently(scene, 800) in scene.effects.granted
    scene.keep_idle(CAT)
    leave_patiently(scene)
    assert scene.stopping == [CAT]


def test_the_one_that_is_named_makes_room_before_any_other() -> None:
    policy = SchedulingPolicy(ram_budget=Bytes(8 * GIB))
    scene = Scenario(make_spec(OWL, 4), make_spec(CAT, 4), make_spec(DOG, 4), policy=policy)
    scene.keep_idle(OWL)
    scene.wait(100)
    load(scene, CAT, seconds=5)
    converse(scene, CAT, gap=1)
    scene.core.succession(CAT, DOG, scene.now)
    scene.ask(DOG)
    assert scene.stopping == [CAT]


def test_the_one_that_is_named_ends_what_it_has_and_is_loaded_again_for_who_comes_later() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    lease = scene.serve(CAT)
    scene.core.succession(CAT, DOG, scene.now)
    switched = scene.ask(DOG)
    scene.wait(scene.policy.turn)
    assert scene.state(CAT) is ModelState.DRAINING
    late = scene.ask(CAT)
    scene.give_back(lease)
    assert scene.stopping == [CAT]
    scene.finish_stop(CAT)
    scene.finish_load(DOG)
    assert switched in scene.effects.granted
    scene.give_back(switched)
    scene.finish_stop(DOG)
    scene.finish_load(CAT)
    assert late in scene.effects.granted
    assert scene.effects.refused == {}
