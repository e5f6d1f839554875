"""Who may stay, who comes next, and what those are told who must wait."""

import pytest

from tests.unit.scheduler.scenario import ANNA, BERT, CAT, DOG, GIB, OWL, Scenario, make_spec
from unified_llm.domain.errors import QueueFull, RequestTimedOut
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.planner.evict import EvictionPolicy
from unified_llm.scheduler.effects import Ticket
from unified_llm.scheduler.policy import SchedulingPolicy


def policy(**others: object) -> SchedulingPolicy:
    return SchedulingPolicy(ram_budget=Bytes(8 * GIB), **others)  # type: ignore[arg-type]


def load(scene: Scenario, model: ModelId, seconds: float) -> None:
    """Have the model loaded and idle, after a load that took so long."""
    ticket = scene.ask(model)
    if scene.stopping and scene.state(scene.stopping[-1]) is ModelState.STOPPING:
        scene.finish_stop(scene.stopping[-1])
    scene.wait(seconds)
    scene.finish_load(model)
    scene.give_back(ticket)


def converse(scene: Scenario, model: ModelId, gap: float, times: int = 3) -> None:
    """Answers of a second each, with so many seconds between them."""
    for _ in range(times):
        scene.wait(gap)
        lease = scene.serve(model)
        scene.wait(1)
        scene.give_back(lease)


# Thrash.


def test_a_model_that_is_about_to_be_asked_again_is_not_swapped_out_between_two_requests() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    load(scene, CAT, seconds=5)
    converse(scene, CAT, gap=1)
    other = scene.ask(DOG, BERT)
    assert scene.stopping == []
    for _ in range(3):
        scene.wait(1)
        lease = scene.serve(CAT)
        scene.wait(1)
        scene.give_back(lease)
    assert scene.stopping == []
    scene.wait(scene.policy.turn)
    assert scene.stopping == [CAT]
    scene.finish_stop(CAT)
    scene.finish_load(DOG)
    assert other in scene.effects.granted


def test_one_that_is_not_asked_again_in_time_is_not_waited_for() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    load(scene, CAT, seconds=5)
    converse(scene, CAT, gap=1)
    scene.ask(DOG, BERT)
    scene.wait(1.9)
    assert scene.stopping == []
    scene.wait(0.2)
    assert scene.stopping == [CAT]


def test_models_of_one_pipeline_are_swapped_at_once_for_staying_would_gain_nothing() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    for model in (CAT, DOG, CAT, DOG, CAT):
        load(scene, model, seconds=5)
        scene.wait(0.1)
    scene.ask(DOG)
    assert scene.state(CAT) is ModelState.STOPPING


def test_a_model_that_loads_slowly_serves_longer_before_it_must_make_room() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    load(scene, CAT, seconds=8)
    lease = scene.serve(CAT)
    scene.ask(DOG)
    scene.wait(31)
    assert scene.state(CAT) is ModelState.READY
    scene.wait(1.5)
    assert scene.state(CAT) is ModelState.DRAINING
    scene.give_back(lease)


def test_no_turn_is_longer_than_the_ageing() -> None:
    scene = Scenario(make_spec(CAT, 8), make_spec(DOG, 8))
    load(scene, CAT, seconds=300)
    scene.serve(CAT)
    scene.ask(DOG)
    scene.wait(scene.policy.ageing)
    assert scene.state(CAT) is ModelState.DRAINING


# Priorities and ageing.


def waiting_in_line(scene: Scenario) -> list[ModelId]:
    """Who is loaded, one after the other, once the first leaves."""
    order: list[ModelId] = []
    while True:
        before = len(scene.loading)
        for status in scene.core.statuses():
            if status.state is ModelState.STOPPING:
                scene.finish_stop(status.id)
        scene.wait(61)
        if len(scene.loading) == before:
            return order
        order.append(scene.loading[-1])
        scene.finish_load(order[-1])
        for ticket, (model, _) in scene.effects.granted.items():
            if model == order[-1]:
                scene.give_back(ticket)


def test_the_higher_priority_is_loaded_first_although_it_came_later() -> None:
    scene = Scenario(
        make_spec(OWL, 8), make_spec(CAT, 8, priority=10), make_spec(DOG, 8, priority=90)
    )
    lease = scene.serve(OWL)
    scene.ask(CAT)
    scene.wait(1)
    scene.ask(DOG)
    scene.give_back(lease)
    assert waiting_in_line(scene) == [DOG, CAT]


def test_a_model_that_made_room_does_not_take_it_back_by_its_priority() -> None:
    """It was unloaded and loaded again, for nobody, until the other had aged."""
    scene = Scenario(make_spec(CAT, 8, priority=10), make_spec(DOG, 8, priority=90))
    lease = scene.serve(DOG)
    scene.ask(CAT)
    scene.wait(scene.policy.turn)
    assert scene.state(DOG) is ModelState.DRAINING
    scene.ask(DOG)
    scene.give_back(lease)
    scene.finish_stop(DOG)
    assert scene.loading == [DOG, CAT]


def test_one_that_was_idle_and_made_room_does_not_take_it_back_either() -> None:
    scene = Scenario(make_spec(CAT, 8, priority=10), make_spec(DOG, 8, priority=90))
    scene.keep_idle(DOG)
    scene.wait(1)
    scene.ask(CAT)
    assert scene.state(DOG) is ModelState.STOPPING
    scene.ask(DOG)
    scene.finish_stop(DOG)
    assert scene.loading == [DOG, CAT]


def test_a_third_one_of_high_priority_gets_what_was_made_for_a_lower_one() -> None:
    scene = Scenario(
        make_spec(CAT, 8, priority=10), make_spec(DOG, 8, priority=90), make_spec(OWL, 8)
    )
    lease = scene.serve(DOG)
    scene.ask(CAT)
    scene.wait(scene.policy.turn)
    scene.ask(DOG)
    scene.ask(OWL)
    scene.give_back(lease)
    assert waiting_in_line(scene) == [OWL, CAT, DOG]


def test_who_made_room_has_its_priority_again_after_its_next_load() -> None:
    ant = ModelId("ant")
    scene = Scenario(
        make_spec(ant, 8),
        make_spec(CAT, 8, priority=10),
        make_spec(DOG, 8, priority=90),
        make_spec(OWL, 8),
    )
    scene.keep_idle(DOG)
    for model, leaves in ((CAT, DOG), (DOG, CAT)):
        ticket = scene.ask(model)
        scene.finish_stop(leaves)
        scene.finish_load(model)
        scene.give_back(ticket)
    scene.unload(DOG)
    scene.finish_stop(DOG)
    lease = scene.serve(ant)
    scene.ask(OWL)
    scene.ask(DOG)
    scene.give_back(lease)
    assert waiting_in_line(scene) == [DOG, OWL]


def test_a_long_wait_outweighs_every_priority() -> None:
    scene = Scenario(
        make_spec(OWL, 8), make_spec(CAT, 8, priority=0), make_spec(DOG, 8, priority=100)
    )
    scene.core.suspended(Seconds(10), scene.now)
    scene.ask(CAT)
    scene.wait(scene.policy.ageing + 1)
    scene.ask(DOG)
    scene.core.resumed(scene.now)
    assert scene.loading == [CAT]


def test_two_models_are_loaded_at_the_same_time_where_memory_allows() -> None:
    scene = Scenario(make_spec(CAT, 4), make_spec(DOG, 4))
    scene.ask(CAT)
    scene.ask(DOG)
    assert scene.loading == [CAT, DOG]


# Who leaves.


@pytest.mark.parametrize(
    ("eviction", "leaves"),
    [
        # cat: first loaded, quickly; used last. dog: loaded last, slowly; idle for longest.
        (EvictionPolicy.FIFO, CAT),
        (EvictionPolicy.LRU, DOG),
        (EvictionPolicy.PRIORITY, DOG),
        (EvictionPolicy.COST, CAT),
    ],
)
def test_the_eviction_policy_decides_who_leaves(eviction: EvictionPolicy, leaves: ModelId) -> None:
    scene = Scenario(
        make_spec(CAT, 4, priority=51),
        make_spec(DOG, 4),
        make_spec(OWL, 4),
        policy=policy(eviction=eviction),
    )
    load(scene, CAT, seconds=1)
    load(scene, DOG, seconds=100)
    scene.wait(100)
    scene.keep_idle(CAT)
    scene.wait(20)
    scene.ask(OWL)
    assert scene.stopping == [leaves]


# What those are told who must wait.


def test_a_full_queue_says_when_those_who_wait_will_have_been_served() -> None:
    scene = Scenario(make_spec(CAT, slots=2), policy=policy(queue_limit=4))
    load(scene, CAT, seconds=1)
    for _ in range(20):
        lease = scene.serve(CAT)
        scene.wait(6)
        scene.give_back(lease)
    for _ in range(2 + 4):
        scene.ask(CAT)
    error = scene.effects.refused[scene.ask(CAT)]
    assert isinstance(error, QueueFull)
    assert error.retry_after == pytest.approx(4 * 6 / 2, rel=0.1)


def test_before_anything_was_measured_it_says_what_the_policy_says() -> None:
    scene = Scenario(make_spec(CAT))
    ticket = scene.ask(CAT, patience=1)
    scene.wait(2)
    error = scene.effects.refused[ticket]
    assert isinstance(error, RequestTimedOut)
    assert error.retry_after == scene.policy.full_queue_retry


def test_one_with_long_answers_gets_no_more_of_the_model_than_one_with_short_ones() -> None:
    scene = Scenario(make_spec(CAT), policy=policy(queue_limit=1000))
    lengths = {ANNA: 9.0, BERT: 1.0}
    held = {ANNA: 0.0, BERT: 0.0}
    lease, principal = scene.serve(CAT, ANNA), ANNA
    owner: dict[Ticket, str] = {}
    for _ in range(100):
        owner |= {scene.ask(CAT, each): each for each in (ANNA, BERT)}
        scene.wait(lengths[principal])
        held[principal] += lengths[principal]
        scene.give_back(lease)
        lease = list(scene.effects.granted)[-1]
        principal = owner[lease]
    assert held[ANNA] / held[BERT] == pytest.approx(1, abs=0.35)
