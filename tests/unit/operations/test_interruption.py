"""What is interrupted ends with the reason, and nothing else does."""

import asyncio

import pytest

from unified_llm.domain.errors import Cancelled, Closing
from unified_llm.operations.interruption import Interruptible

GONE = Cancelled("Gone.")


async def test_every_running_body_ends_with_the_reason() -> None:
    work = Interruptible()
    ended: list[Exception] = []
    entered = asyncio.Semaphore(0)

    async def run() -> None:
        try:
            async with work.open_scope():
                entered.release()
                await asyncio.Event().wait()
        except Cancelled as error:
            ended.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(run())
            await entered.acquire()
        work.interrupt(GONE)
    assert ended == [GONE, GONE]


async def test_a_body_that_comes_later_does_not_run_and_the_first_reason_counts() -> None:
    work = Interruptible()
    work.interrupt(GONE)
    work.interrupt(Closing("Later."))
    with pytest.raises(Cancelled):
        async with work.open_scope():
            pytest.fail("the body ran")


async def test_a_timeout_of_the_body_is_its_own() -> None:
    work = Interruptible()
    with pytest.raises(TimeoutError):
        async with work.open_scope():
            raise TimeoutError
    async with work.open_scope():
        await work.checkpoint()


async def test_an_interruption_reaches_a_body_that_never_waits() -> None:
    work = Interruptible()
    turns = 0

    async def run_for_ever() -> None:
        nonlocal turns
        async with work.open_scope():
            while True:
                turns += 1
                if turns == 3:
                    work.interrupt(GONE)
                await work.checkpoint()

    with pytest.raises(Cancelled):
        await run_for_ever()
    assert turns == 3
