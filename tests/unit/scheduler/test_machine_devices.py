"""A part of the 10^5 steps that `python -m tests.unit.scheduler.device_machine` takes."""

import pytest

from tests.unit.scheduler.device_machine import DeviceMachine, run_with

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [4, 20261122, 31])
def test_no_order_of_events_overcommits_a_device_drops_a_ticket_or_starves_one(number: int) -> None:
    before = DeviceMachine.steps, DeviceMachine.grants
    run_with(number, examples=40, steps=100)
    print(f"seed {number}: {DeviceMachine.steps - before[0]} steps")
    assert DeviceMachine.grants > before[1] + 20
