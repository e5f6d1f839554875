"""Who waits for the end of a job: bounded by user, told at the end, forgotten when gone."""

import asyncio
import os
from collections import Counter
from contextlib import AsyncExitStack
from typing import Final, cast

import pytest

from tests.bus.front_door import ask, open_front_door
from tests.fakes.house import ROOT, TINY
from tests.private_bus import PrivateBus, effective_user
from unified_llm.bus.calls import MAX_CALLS_PER_USER, MAX_CALLS_ROOT
from unified_llm.bus.connection import BusConnection, Signal, open_connection
from unified_llm.bus.faults import LIMITS_EXCEEDED, BusFault
from unified_llm.bus.names import BUS_NAME, JOB_INTERFACE, PROPERTIES_INTERFACE, job_path
from unified_llm.bus.values import Variant, unwrap
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.downloads.local_import import SourceFile

pytestmark = [pytest.mark.system, pytest.mark.slow]

# One more than the bus has any connection wait for.
TOO_MANY: Final = 129


async def wait(client: BusConnection, job: str) -> str:
    """The job's result; the name and text of the error if waiting was refused."""
    try:
        return str((await client.call(BUS_NAME, job, JOB_INTERFACE, "Wait"))[0])
    except BusFault as fault:
        return f"{fault.name}: {fault}"


async def open_as(stack: AsyncExitStack, user: str, bus: PrivateBus) -> BusConnection:
    with effective_user(user):
        return await stack.enter_async_context(open_connection(bus.address))


@pytest.mark.parametrize(
    ("user", "other", "most"),
    [("nobody", "root", MAX_CALLS_PER_USER), ("root", "nobody", MAX_CALLS_ROOT)],
)
async def test_who_waits_too_often_is_refused_with_reason_and_others_are_served(
    user: str, other: str, most: int, shared_bus: PrivateBus
) -> None:
    async with open_front_door(shared_bus, obedient=False) as front, AsyncExitStack() as stack:
        greedy = await open_as(stack, user, shared_bus)
        modest = await open_as(stack, other, shared_bus)
        path = job_path(front.house.models.begin_load(ROOT, TINY).id)
        refused = asyncio.Semaphore(0)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            waits = [group.create_task(wait(greedy, path)) for _ in range(TOO_MANY)]
            for task in waits:
                task.add_done_callback(lambda _: refused.release())
            for _ in range(TOO_MANY - most):
                await refused.acquire()
            assert await ask(modest, "GetModel", "s", TINY) == ("/org/unifiedllm1/model/tiny",)
            others = group.create_task(wait(modest, path))
            # It has arrived when what was sent after it is answered.
            await asyncio.sleep(0)
            await ask(modest, "GetModel", "s", TINY)
            front.house.workers.finish_load(TINY)
        assert others.result() == "done"
        told = Counter(task.result() for task in waits)
        assert told.pop("done") == most
        for error in told:
            assert error.startswith(f"{LIMITS_EXCEEDED}: ")
        assert await wait(greedy, path) == "done"


async def test_a_load_goes_on_without_who_asked_for_it_and_nothing_else_of_theirs_stays(
    shared_bus: PrivateBus,
) -> None:
    async with open_front_door(shared_bus, obedient=False) as front, AsyncExitStack() as stack:
        root = await open_as(stack, "root", shared_bus)
        leaving = AsyncExitStack()
        owner = await open_as(leaving, "root", shared_bus)
        crowd = await open_as(leaving, "nobody", shared_bus)
        answer = await ask(owner, "LoadModel", "sa{sv}", TINY, {})
        path = cast("str", answer[1])
        async with asyncio.timeout(60):
            async with asyncio.TaskGroup() as group:
                waits = [group.create_task(wait(crowd, path)) for _ in range(MAX_CALLS_PER_USER)]
                waits.append(group.create_task(wait(owner, path)))
                await asyncio.sleep(0)
                # The crowd has no room left for anything else.
                with pytest.raises(BusFault, match=f"{MAX_CALLS_PER_USER} calls in flight"):
                    await ask(crowd, "ListJobs", "a{sv}", {})
                names = [each.unique_name for each in (owner, crowd)]
                await leaving.aclose()
            assert not any(task.result() == "done" for task in waits)
            for name in names:
                while await root.call_bus("NameHasOwner", "s", name) == (True,):
                    await asyncio.sleep(0.01)
            # Whoever comes next of that user finds room again, and the load under way.
            next_one = await open_as(stack, "nobody", shared_bus)
            ((job,),) = cast(
                "list[list[tuple[object, ...]]]", await ask(next_one, "ListJobs", "a{sv}", {})
            )
            assert (job[1], job[2], job[5], job[6]) == ("load", TINY, "running", path)
            front.house.workers.finish_load(TINY)
            assert await wait(next_one, path) == "done"
            (state,) = await root.call(
                BUS_NAME, path, PROPERTIES_INTERFACE, "Get", "ss", JOB_INTERFACE, "State"
            )
        assert unwrap(state) == "finished"
        assert front.house.scheduler.status(TINY).state is ModelState.READY


async def test_a_load_that_is_tied_to_its_caller_is_cancelled_when_that_leaves(
    shared_bus: PrivateBus,
) -> None:
    async with open_front_door(shared_bus, obedient=False) as front, AsyncExitStack() as stack:
        root = await open_as(stack, "root", shared_bus)
        async with open_connection(shared_bus.address) as leaving:
            tied = {"cancel_on_disconnect": Variant("b", True)}
            path = cast("str", (await ask(leaving, "LoadModel", "sa{sv}", TINY, tied))[1])
        async with asyncio.timeout(60):
            assert await wait(root, path) == "cancelled"
        front.house.workers.finish_load(TINY)


async def test_a_job_that_waits_for_its_turn_says_queued_and_then_running(
    shared_bus: PrivateBus,
) -> None:
    async with (
        open_front_door(shared_bus) as front,
        open_connection(shared_bus.address) as client,
        asyncio.timeout(60),
    ):
        house, told = front.house, asyncio.Queue[str]()
        house.shelf.gate.clear()
        with SourceFile(os.open("/dev/null", os.O_RDONLY)) as source:
            first = await house.library.begin_import(ROOT, source, ModelId("a"))
            second = await house.library.begin_import(ROOT, source, ModelId("b"))
        path = job_path(second.id)

        def on_changed(signal: Signal) -> None:
            changed = cast("dict[str, object]", unwrap(signal.body[1]))
            if signal.path == path and "State" in changed:
                told.put_nowait(str(changed["State"]))

        sender = cast("str", (await client.call_bus("GetNameOwner", "s", BUS_NAME))[0])
        client.on_signal(sender, PROPERTIES_INTERFACE, "PropertiesChanged", on_changed)
        await client.add_match(f"type='signal',sender='{BUS_NAME}',path='{path}'")
        (found,) = await client.call(
            BUS_NAME, path, PROPERTIES_INTERFACE, "GetAll", "s", JOB_INTERFACE
        )
        properties = cast("dict[str, object]", unwrap(found))
        assert (properties["State"], properties["Cancelable"]) == ("queued", True)
        house.jobs.cancel(first, ROOT)
        assert await told.get() == "running"
        house.shelf.gate.set()
        assert await told.get() == "finished"
        assert second.details["model"] == "b"
