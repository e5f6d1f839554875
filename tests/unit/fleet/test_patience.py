from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.units import Instant
from unified_llm.fleet.patience import Patience, Vigil
from unified_llm.worker.protocol import Heartbeat

PATIENCE = Patience()


def beat(steps: int, busy: float) -> Heartbeat:
    return Heartbeat(steps_done=steps, busy_seconds=busy, active=1, waiting=0)


def vigil_at(moment: float) -> Vigil:
    vigil = Vigil(PATIENCE)
    vigil.on_opened(1, Instant(moment))
    return vigil


def test_an_idle_worker_is_never_looked_at() -> None:
    vigil = vigil_at(0)
    vigil.on_ended(1)
    assert vigil.next_look() is None
    assert vigil.complaint(Instant(1e9)) is None


def test_silence_is_complained_of_when_the_limit_is_reached_and_not_before() -> None:
    vigil = vigil_at(100)
    assert vigil.next_look() == Instant(130)
    assert vigil.complaint(Instant(129.9)) is None
    assert vigil.complaint(Instant(130)) == "It made no progress for 30 s."


def test_idle_time_before_a_request_is_not_held_against_it() -> None:
    vigil = vigil_at(0)
    vigil.on_ended(1)
    vigil.on_opened(2, Instant(1000))
    assert vigil.complaint(Instant(1001)) is None


def test_a_second_request_does_not_hide_that_the_first_has_stalled() -> None:
    vigil = vigil_at(0)
    vigil.on_opened(2, Instant(29))
    assert vigil.complaint(Instant(30)) is not None


def test_one_long_step_that_tells_of_itself_is_progress() -> None:
    vigil = vigil_at(0)
    for second in range(1, 600):
        vigil.on_heartbeat(beat(7, float(second)), Instant(second))
        assert vigil.complaint(Instant(second)) is None


def test_heartbeats_that_tell_of_no_new_work_are_not_progress() -> None:
    vigil = vigil_at(0)
    for second in range(1, 31):
        vigil.on_heartbeat(beat(7, 0.5), Instant(second))
    assert vigil.complaint(Instant(31)) is not None


def test_a_cancelled_request_has_its_own_shorter_limit() -> None:
    vigil = vigil_at(0)
    vigil.on_cancelled(1, Instant(2))
    vigil.on_cancelled(1, Instant(6))
    vigil.on_frame(Instant(6.5))
    assert vigil.next_look() == Instant(7)
    assert vigil.complaint(Instant(7)) == "It did not stop a cancelled request within 5 s."


def test_a_cancelled_request_that_ended_is_forgiven() -> None:
    vigil = vigil_at(0)
    vigil.on_opened(2, Instant(1))
    vigil.on_cancelled(1, Instant(2))
    vigil.on_ended(1)
    vigil.on_frame(Instant(6))
    assert vigil.complaint(Instant(8)) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "cancel", "frame", "end"]), st.integers(1, 3)),
        max_size=30,
    )
)
def test_there_is_a_complaint_exactly_from_the_announced_look_on(
    steps: list[tuple[str, int]],
) -> None:
    vigil, now = Vigil(PATIENCE), Instant(0.0)
    for what, number in steps:
        now = Instant(now + 1)
        match what:
            case "open":
                vigil.on_opened(number, now)
            case "cancel":
                vigil.on_cancelled(number, now)
            case "frame":
                vigil.on_frame(now)
            case "end":
                vigil.on_ended(number)
    due = vigil.next_look()
    if due is None:
        assert vigil.complaint(Instant(now + 1e6)) is None
    else:
        assert vigil.complaint(due) is not None
        assert vigil.complaint(Instant(due - 0.5)) is None


def test_a_paused_request_owes_nothing_until_it_is_resumed() -> None:
    vigil = vigil_at(0)
    vigil.on_paused(1)
    assert vigil.next_look() is None
    assert vigil.complaint(Instant(1000)) is None
    vigil.on_resumed(1, Instant(1000))
    assert vigil.complaint(Instant(1029)) is None
    assert vigil.complaint(Instant(1030)) is not None


def test_another_request_is_watched_beside_a_paused_one() -> None:
    vigil = vigil_at(0)
    vigil.on_paused(1)
    vigil.on_opened(2, Instant(100))
    assert vigil.complaint(Instant(129)) is None
    vigil.on_resumed(1, Instant(129))
    assert vigil.complaint(Instant(130)) is not None


def test_a_paused_request_has_to_end_in_time_when_cancelled() -> None:
    vigil = vigil_at(0)
    vigil.on_paused(1)
    vigil.on_cancelled(1, Instant(10))
    assert vigil.next_look() == Instant(15)
    assert vigil.complaint(Instant(15)) == "It did not stop a cancelled request within 5 s."
