from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.devices import RAM, DeviceId
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Instant
from unified_llm.planner.evict import EvictionPolicy, Resident, choose_victims


def resident(
    name: str, size: int, idle_since: float = 0, *, pinned: bool = False, leases: int = 0
) -> Resident:
    return Resident(
        ModelId(name), {RAM: Bytes(size)}, pinned, False, leases, idle_since=Instant(idle_since)
    )


def choose(target: int, free: int, residents: list[Resident]) -> tuple[ModelId, ...] | None:
    return choose_victims({RAM: Bytes(target)}, {RAM: Bytes(free)}, residents)


def test_one_on_another_device_stays() -> None:
    gpu = DeviceId("fake:0")
    here = Resident(ModelId("cat"), {gpu: Bytes(8)}, False, False, 0, Instant(9))
    there = Resident(ModelId("dog"), {RAM: Bytes(8)}, False, False, 0, Instant(0))
    assert choose_victims({gpu: Bytes(5), RAM: Bytes(1)}, {RAM: Bytes(1)}, [there, here]) == (
        "cat",
    )
    assert choose_victims({gpu: Bytes(9)}, {}, [there, here]) is None


def test_the_lowest_priority_leaves_first_however_lately_it_was_used() -> None:
    low = Resident(ModelId("cat"), {RAM: Bytes(8)}, False, False, 0, Instant(9), priority=10)
    assert choose(4, 0, [resident("dog", 8), low]) == ("cat",)


def test_nobody_leaves_when_there_is_room() -> None:
    assert choose(Bytes(5), Bytes(5), [resident("cat", 9)]) == ()


def test_the_longest_idle_leaves_first_and_names_break_ties() -> None:
    residents = [resident("owl", 4, 7), resident("dog", 4, 7), resident("cat", 4, 9)]
    assert choose(Bytes(4), Bytes(0), residents) == ("dog",)


def test_a_victim_that_another_makes_superfluous_stays() -> None:
    residents = [resident("cat", 1, 1), resident("dog", 8, 2)]
    assert choose(Bytes(8), Bytes(0), residents) == ("dog",)


def test_a_leased_model_leaves_only_after_its_turn_and_after_the_idle() -> None:
    busy = Resident(
        ModelId("cat"), {RAM: Bytes(8)}, False, False, 1, Instant(0), has_had_its_turn=True
    )
    assert choose(Bytes(4), Bytes(0), [resident("cat", 8, leases=1)]) is None
    assert choose(Bytes(4), Bytes(0), [busy]) == ("cat",)
    assert choose(Bytes(4), Bytes(0), [busy, resident("dog", 4, 9)]) == ("dog",)


residents_of_any_kind = st.lists(
    st.builds(
        Resident,
        model=st.text("abcdef", min_size=1, max_size=3).map(ModelId),
        memory=st.integers(1, 50).map(lambda size: {RAM: Bytes(size)}),
        pinned=st.booleans(),
        is_loading=st.booleans(),
        leases=st.integers(0, 2),
        idle_since=st.integers(0, 5).map(lambda second: Instant(float(second))),
        has_had_its_turn=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda each: each.model,
)


@given(st.integers(0, 200), st.integers(-20, 100), residents_of_any_kind)
def test_victims_suffice_may_leave_and_none_is_superfluous(
    target: int, free: int, residents: list[Resident]
) -> None:
    chosen = choose(Bytes(target), Bytes(free), residents)
    willing = {each.model: each.memory[RAM] for each in residents if each.may_leave}
    if chosen is None:
        assert free + sum(willing.values()) < target
        return
    assert set(chosen) <= set(willing)
    freed = sum(willing[model] for model in chosen)
    assert free + freed >= target
    for model in chosen:
        assert free + freed - willing[model] < target
    for each in residents:
        assert each.model not in chosen or not (each.pinned or each.is_loading)
        assert each.model not in chosen or each.leases == 0 or each.has_had_its_turn


@given(st.integers(0, 200), residents_of_any_kind)
def test_the_order_of_the_question_does_not_change_the_answer(
    target: int, residents: list[Resident]
) -> None:
    forwards = choose(Bytes(target), Bytes(0), residents)
    assert forwards == choose(Bytes(target), Bytes(0), residents[::-1])


@given(residents_of_any_kind, st.sampled_from(EvictionPolicy), st.integers(0, 200))
def test_no_policy_sends_a_leased_model_away_before_an_idle_one_that_would_do(
    residents: list[Resident], policy: EvictionPolicy, target: int
) -> None:
    chosen = choose_victims({RAM: Bytes(target)}, {}, residents, policy, Instant(9))
    idle = [each for each in residents if each.may_leave and not each.leases]
    if chosen is not None and sum(each.memory[RAM] for each in idle) >= target:
        assert set(chosen) <= {each.model for each in idle}


def test_cost_weighs_reload_and_priority_against_the_time_spent_idle() -> None:
    def costly(name: str, reload_seconds: float, idle_since: float, priority: int) -> Resident:
        return Resident(
            ModelId(name),
            {RAM: Bytes(4)},
            False,
            False,
            0,
            Instant(idle_since),
            priority=priority,
            reload_seconds=reload_seconds,
        )

    def first(*residents: Resident) -> tuple[ModelId, ...] | None:
        return choose_victims({RAM: Bytes(4)}, {}, residents, EvictionPolicy.COST, Instant(100))

    assert first(costly("slow", 40, 0, 50), costly("fast", 2, 99, 50)) == ("slow",)
    assert first(costly("slow", 40, 0, 50), costly("fast", 2, 80, 50)) == ("fast",)
    assert first(costly("dear", 9, 0, 90), costly("cheap", 9, 50, 10)) == ("cheap",)
