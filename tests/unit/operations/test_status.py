"""operations.status: the daemon's state in one word."""

import pytest

from tests.fakes.house import open_house
from unified_llm.domain.events import Surroundings
from unified_llm.operations.status import ServiceState, Status


@pytest.mark.parametrize("is_suspending", [True, False])
@pytest.mark.parametrize("complaint", [(), ("The disk is full.",)])
async def test_stopping_says_more_than_a_sleep_and_that_more_than_a_complaint(
    is_suspending: bool, complaint: tuple[str, ...]
) -> None:
    async with open_house() as house:
        status = Status(
            house.gate,
            house.scheduler,
            house.clock,
            version="1",
            complaints=lambda: complaint,
            read_memory=house.memory.read,
            providers=house.routes.prospects.health,
            surroundings=Surroundings,
            is_suspending=lambda: is_suspending,
        )
        assert status.health().state is ServiceState.STARTING
        status.doors_opened()
        otherwise = ServiceState.DEGRADED if complaint else ServiceState.RUNNING
        serving = status.health()
        assert serving.state is (ServiceState.SUSPENDING if is_suspending else otherwise)
        assert (serving.ready, serving.degraded) == (True, complaint)
        assert status.render_line().startswith(f"{serving.state}; ")
        status.draining_began()
        stopping = status.health()
        assert (stopping.state, stopping.ready) == (ServiceState.DRAINING, False)
