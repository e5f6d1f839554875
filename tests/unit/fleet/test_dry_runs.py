"""Workers that only say what a load would take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.fakes.house import TINY, make_spec
from tests.fakes.timers import FakeTimers
from tests.fakes.worker_link import FakeWorkerLink, hello
from tests.unit.fleet.asking import PLACEMENT
from unified_llm.domain.devices import DeviceId
from unified_llm.domain.errors import QueueFull
from unified_llm.domain.measurements import DryRun
from unified_llm.domain.models import ModelSpec
from unified_llm.domain.units import Bytes
from unified_llm.fleet.dry_runs import MOST_WAITING, DryRuns
from unified_llm.fleet.model_worker import ModelWorker
from unified_llm.worker.protocol import Rehearsed

SPEC = make_spec(TINY)


class Workers:
    """Opens fake ones that answer when they may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.open = self.most_open = 0

    @asynccontextmanager
    async def open_worker(self, spec: ModelSpec) -> AsyncIterator[ModelWorker]:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        fake = FakeWorkerLink(FakeTimers())
        await self.may_answer.wait()
        fake.channel.say(
            hello(), Rehearsed(cache_bytes=5, working_bytes=7, gpu_working_bytes=(1, 2))
        )
        yield ModelWorker(fake.link)
        self.open -= 1


async def test_what_the_engine_says_is_told_by_device() -> None:
    workers = Workers()
    workers.may_answer.set()
    placement = replace(PLACEMENT, gpus=(DeviceId("a"), DeviceId("b")), gpu_layers=(0, 4), layers=4)
    found = await DryRuns(workers.open_worker).rehearse(SPEC, placement)
    assert found == DryRun(Bytes(5), {"ram": Bytes(7), "a": Bytes(1), "b": Bytes(2)})


async def test_one_runs_at_a_time_and_few_may_wait() -> None:
    workers = Workers()
    runs = DryRuns(workers.open_worker)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(runs.rehearse(SPEC, PLACEMENT)) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as full:
            await runs.rehearse(SPEC, PLACEMENT)
        assert full.value.retry_after is not None
        workers.may_answer.set()
    assert all(task.result().cache == 5 for task in tasks)
    assert workers.most_open == 1
