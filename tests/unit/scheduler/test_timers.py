from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.units import Instant
from unified_llm.scheduler.timers import Timers


def test_due_timers_run_in_order_and_the_rest_stays() -> None:
    timers, done = Timers(), list[str]()
    timers.set("late", Instant(9), lambda _: done.append("late"))
    timers.set("b", Instant(2), lambda _: done.append("b"))
    timers.set("a", Instant(1), lambda _: done.append("a"))
    timers.run_due(Instant(2))
    assert done == ["a", "b"]
    assert timers.next() == Instant(9)


def test_setting_a_key_again_replaces_its_timer() -> None:
    timers, done = Timers(), list[str]()
    timers.set("a", Instant(1), lambda _: done.append("old"))
    timers.set("a", Instant(3), lambda _: done.append("new"))
    timers.run_due(Instant(2))
    assert done == []
    timers.run_due(Instant(3))
    assert done == ["new"]
    assert timers.next() is None


def test_an_action_may_clear_and_set_timers() -> None:
    timers, done = Timers(), list[str]()

    def first(now: Instant) -> None:
        timers.clear("b")
        timers.set("c", now, lambda _: done.append("c"))

    timers.set("a", Instant(1), first)
    timers.set("b", Instant(1), lambda _: done.append("b"))
    timers.run_due(Instant(1))
    assert done == ["c"]


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 100))))
def test_timers_are_a_mapping_of_keys_to_moments(changes: list[tuple[int, int | None]]) -> None:
    timers, model = Timers(), dict[int, Instant]()
    for key, moment in changes:
        if moment is None:
            timers.clear(key)
            model.pop(key, None)
        else:
            model[key] = Instant(moment)
            timers.set(key, model[key], lambda _: None)
        assert timers.next() == min(model.values(), default=None)
        assert len(timers) == len(model)


def test_timers_that_are_cleared_long_before_they_are_due_take_no_memory() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.set(number, Instant(1e9), lambda _: None)
        timers.clear(number)
    assert len(timers._heap) < 200
