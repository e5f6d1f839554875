import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.effects import FakeEffects
from tests.fakes.reports import FakeReports
from tests.fakes.workers import FakeWorkers
from tests.unit.scheduler.scenario import CAT, CRASH, make_spec
from unified_llm.domain.devices import RAM
from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.placement import Placement
from unified_llm.domain.ports import Clock
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.scheduler.effects import Effects, Generation, Ticket, Workers

ONE, TICKET = Generation(1), Ticket(1)
PLACEMENT = Placement(Tokens(4096), slots=1, threads=None, memory={RAM: Bytes(1)})


def workers_and_reports(*, obedient: bool = False) -> tuple[FakeWorkers, FakeReports]:
    workers, reports = FakeWorkers(obedient=obedient), FakeReports()
    workers.reports = reports
    return workers, reports


def test_the_fakes_are_their_ports() -> None:
    ports: tuple[Clock, Effects, Workers] = (FakeClock(), FakeEffects(), FakeWorkers())
    assert len(ports) == 3


def test_the_clock_rings_due_alarms_in_order_each_at_its_moment() -> None:
    clock, rang = FakeClock(start=0), list[tuple[str, float]]()
    clock.call_later(2, lambda: rang.append(("second", clock.now())))
    clock.call_later(1, lambda: rang.append(("first", clock.now())))
    clock.call_later(1, lambda: rang.append(("never", clock.now()))).cancel()
    clock.advance(1.5)
    assert rang == [("first", 1)]
    assert clock.next_alarm() == Seconds(0.5)
    clock.advance(1)
    assert rang == [("first", 1), ("second", 2)]
    assert clock.next_alarm() is None


def test_the_effects_refuse_a_second_end_of_a_ticket() -> None:
    effects = FakeEffects()
    assert effects.grant(TICKET, CAT, ONE)
    with pytest.raises(AssertionError):
        effects.grant(TICKET, CAT, ONE)
    with pytest.raises(AssertionError):
        effects.refuse(TICKET, CRASH)


def test_the_effects_grant_nothing_to_a_caller_that_has_gone() -> None:
    effects = FakeEffects(gone={TICKET})
    assert not effects.grant(TICKET, CAT, ONE)
    assert effects.granted == {}


def test_an_obedient_worker_reports_before_the_call_returns() -> None:
    workers, reports = workers_and_reports(obedient=True)
    workers.begin_load(make_spec(CAT), ONE, PLACEMENT)
    workers.begin_stop(CAT, ONE, grace=Seconds(1))
    assert reports.of(ONE) == ["load_finished", "stop_finished", "memory_returned"]


def test_other_workers_report_when_the_test_says_so() -> None:
    workers, reports = workers_and_reports()
    workers.begin_load(make_spec(CAT), ONE, PLACEMENT)
    with pytest.raises(AssertionError):
        workers.begin_load(make_spec(CAT), ONE, PLACEMENT)
    assert reports.of(ONE) == []
    workers.fail_load(CAT, ModelFailedToLoad("broken"))
    workers.begin_load(make_spec(CAT), Generation(2), PLACEMENT)
    workers.die(CAT, CRASH)
    assert reports.of(ONE) == ["load_finished", "stop_finished", "memory_returned"]
    assert reports.of(2) == ["worker_died", "memory_returned"]


def test_a_worker_that_is_not_running_is_reported_stopped_at_once() -> None:
    workers, reports = workers_and_reports()
    workers.begin_stop(CAT, ONE, grace=Seconds(1))
    assert reports.of(ONE) == ["stop_finished"]
