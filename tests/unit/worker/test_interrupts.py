"""worker.interrupts."""

from unified_llm.worker.interrupts import Interrupts

_STEP = frozenset({1, 2})


def test_a_step_stops_for_those_in_it_and_for_nobody_else() -> None:
    interrupts, pulses = Interrupts(), list[None]()
    with interrupts.open_step(_STEP, lambda: pulses.append(None)) as should_stop:
        assert interrupts.ask(3) is False
        assert should_stop() is False
        assert interrupts.ask(2) is True
        assert should_stop() is True
    assert len(pulses) == 2
    assert interrupts.ask(1) is False
    assert interrupts.among([3, 4, 1]) == [3, 1]


def test_what_was_asked_before_the_step_stops_it_and_what_was_withdrawn_does_not() -> None:
    interrupts = Interrupts()
    interrupts.ask(1)
    with interrupts.open_step(_STEP, lambda: None) as should_stop:
        assert should_stop() is True
        interrupts.withdraw(1)
        assert should_stop() is False


def test_a_look_stops_for_anybody() -> None:
    interrupts, pulses = Interrupts(), list[None]()
    should_stop = interrupts.while_looking(lambda: pulses.append(None))
    assert should_stop() is False
    interrupts.ask(7)
    assert should_stop() is True
    interrupts.withdraw(7)
    assert should_stop() is False
    interrupts.hurry()
    assert should_stop() is True
    assert len(pulses) == 4


def test_in_a_hurry_every_step_stops() -> None:
    interrupts = Interrupts()
    interrupts.hurry()
    with interrupts.open_step(_STEP, lambda: None) as should_stop:
        assert should_stop() is True
