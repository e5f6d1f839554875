from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Instant
from unified_llm.planner.evict import Resident, choose_victims


def resident(
    name: str, size: int, idle_since: float = 0, *, pinned: bool = False, leases: int = 0
) -> Resident:
    return Resident(
        ModelId(name), Bytes(size), pinned, False, leases, idle_since=Instant(idle_since)
    )


def test_nobody_leaves_when_there_is_room() -> None:
    assert choose_victims(Bytes(5), Bytes(5), [resident("cat", 9)]) == ()


def test_the_longest_idle_leaves_first_and_names_break_ties() -> None:
    residents = [resident("owl", 4, 7), resident("dog", 4, 7), resident("cat", 4, 9)]
    assert choose_victims(Bytes(4), Bytes(0), residents) == ("dog",)


def test_a_victim_that_another_makes_superfluous_stays() -> None:
    residents = [resident("cat", 1, 1), resident("dog", 8, 2)]
    assert choose_victims(Bytes(8), Bytes(0), residents) == ("dog",)


def test_a_leased_model_leaves_only_after_its_turn_and_after_the_idle() -> None:
    busy = Resident(ModelId("cat"), Bytes(8), False, False, 1, Instant(0), has_had_its_turn=True)
    assert choose_victims(Bytes(4), Bytes(0), [resident("cat", 8, leases=1)]) is None
    assert choose_victims(Bytes(4), Bytes(0), [busy]) == ("cat",)
    assert choose_victims(Bytes(4), Bytes(0), [busy, resident("dog", 4, 9)]) == ("dog",)


residents_of_any_kind = st.lists(
    st.builds(
        Resident,
        model=st.text("abcdef", min_size=1, max_size=3).map(ModelId),
        memory_bytes=st.integers(1, 50).map(Bytes),
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
    chosen = choose_victims(Bytes(target), Bytes(free), residents)
    willing = {each.model: each.memory_bytes for each in residents if each.may_leave}
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
    forwards = choose_victims(Bytes(target), Bytes(0), residents)
    assert forwards == choose_victims(Bytes(target), Bytes(0), residents[::-1])
