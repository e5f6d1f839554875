"""Memory that others than models take, and what is kept from happening."""

from tests.unit.scheduler.scenario import ANNA, CAT, DOG, GIB, Scenario, make_spec
from unified_llm.domain.errors import Inhibited, NoRoom
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.units import Bytes
from unified_llm.scheduler.effects import Ticket

GAME, VIDEO = Ticket(1001), Ticket(1002)
BUSY = Inhibited("No model is loaded while backup (uid 0) keeps it from happening: busy.")


def reserve(scenario: Scenario, ticket: Ticket, gib: int) -> None:
    assert scenario.core.objection_to_reserving(Bytes(gib * GIB)) is None
    scenario.core.reserved(ticket, Bytes(gib * GIB), scenario.now)


def test_free_memory_is_reserved_at_once() -> None:
    scenario = Scenario(make_spec(CAT))
    reserve(scenario, GAME, 4)
    assert scenario.effects.met == [GAME]
    assert scenario.core.memory_committed == 4 * GIB


def test_an_idle_model_leaves_and_the_reservation_is_met_when_its_memory_is_seen_free() -> None:
    scenario = Scenario(make_spec(CAT))
    scenario.keep_idle(CAT)
    reserve(scenario, GAME, 6)
    assert scenario.state(CAT) is ModelState.STOPPING
    assert scenario.effects.met == []
    generation = scenario.effects.loads[-1].generation
    scenario.core.stop_finished(CAT, generation, scenario.now)
    assert scenario.effects.met == []
    scenario.core.memory_returned(CAT, generation, scenario.now)
    assert scenario.effects.met == [GAME]


def test_a_busy_model_drains_and_is_stopped_when_the_grace_is_over() -> None:
    scenario = Scenario(make_spec(CAT))
    scenario.serve(CAT, ANNA)
    reserve(scenario, GAME, 6)
    assert scenario.state(CAT) is ModelState.DRAINING
    scenario.wait(scenario.policy.drain_grace)
    assert scenario.state(CAT) is ModelState.STOPPING


def test_nothing_is_loaded_into_what_is_reserved() -> None:
    scenario = Scenario(make_spec(CAT), make_spec(DOG, 6))
    reserve(scenario, GAME, 4)
    scenario.ask(CAT)
    assert scenario.state(CAT) is ModelState.LOADING
    ticket = scenario.ask(DOG)
    refusal = scenario.effects.refused[ticket]
    assert isinstance(refusal, NoRoom)
    assert "Programs have reserved 4.0 GiB of ram" in refusal.message


def test_what_is_given_back_is_for_models_again() -> None:
    scenario = Scenario(make_spec(DOG, 6))
    reserve(scenario, GAME, 4)
    scenario.core.unreserved(GAME, scenario.now)
    scenario.core.unreserved(GAME, scenario.now)
    scenario.ask(DOG)
    assert scenario.state(DOG) is ModelState.LOADING


def test_more_than_there_can_be_is_refused_with_the_numbers() -> None:
    scenario = Scenario(make_spec(CAT, pinned=True))
    scenario.keep_idle(CAT)
    assert scenario.core.objection_to_reserving(Bytes(4 * GIB)) is None
    objection = scenario.core.objection_to_reserving(Bytes(5 * GIB))
    assert isinstance(objection, NoRoom)
    assert (
        "5.0 GiB can not be reserved; the budget is 8.0 GiB of ram, 4.0 GiB of it"
        in objection.message
    )
    reserve(scenario, GAME, 4)
    assert isinstance(scenario.core.objection_to_reserving(Bytes(1)), NoRoom)


def test_reservations_are_met_in_their_order() -> None:
    scenario = Scenario(make_spec(CAT))
    scenario.keep_idle(CAT)
    reserve(scenario, GAME, 6)
    reserve(scenario, VIDEO, 1)
    assert scenario.effects.met == []
    scenario.core.unreserved(GAME, scenario.now)
    assert scenario.effects.met == [VIDEO]


def test_inhibited_loads_are_refused_and_what_is_loaded_answers() -> None:
    scenario = Scenario(make_spec(CAT, slots=2), make_spec(DOG))
    scenario.keep_idle(CAT)
    scenario.core.inhibited(BUSY, scenario.now, are_evictions_inhibited=False)
    refused, granted = scenario.ask(DOG), scenario.ask(CAT)
    assert str(scenario.effects.refused[refused]) == str(BUSY)
    assert granted in scenario.effects.granted
    scenario.core.inhibited(None, scenario.now, are_evictions_inhibited=False)
    scenario.ask(DOG)
    assert scenario.state(DOG) is ModelState.LOADING


def test_those_who_wait_for_a_load_are_told_that_it_is_inhibited() -> None:
    scenario = Scenario(make_spec(CAT, 6), make_spec(DOG, 6))
    scenario.serve(CAT, ANNA)
    waiting = scenario.ask(DOG)
    assert scenario.state(DOG) is ModelState.QUEUED
    scenario.core.inhibited(BUSY, scenario.now, are_evictions_inhibited=False)
    assert str(scenario.effects.refused[waiting]) == str(BUSY)
    assert scenario.state(DOG) is ModelState.AVAILABLE


def test_inhibited_evictions_keep_models_where_they_are() -> None:
    scenario = Scenario(make_spec(CAT, 6), make_spec(DOG, 6))
    scenario.keep_idle(CAT)
    scenario.core.inhibited(None, scenario.now, are_evictions_inhibited=True)
    scenario.ask(DOG)
    reserve(scenario, GAME, 4)
    assert (scenario.state(CAT), scenario.effects.met) == (ModelState.READY, [])
    scenario.core.inhibited(None, scenario.now, are_evictions_inhibited=False)
    assert scenario.state(CAT) is ModelState.STOPPING
