"""Calls in flight."""

import asyncio

import pytest

from unified_llm.bus import faults
from unified_llm.bus.calls import MAX_CALLS_PER_USER, MAX_CALLS_ROOT, Calls
from unified_llm.domain.callers import Caller, Door


def _caller(uid: int, connection: str = ":1.1") -> Caller:
    return Caller(uid, frozenset(), None, Door.DBUS, connection)


async def _wait() -> None:
    await asyncio.Event().wait()


async def test_leaving_ends_every_call_and_an_error_comes_out_as_it_is() -> None:
    over: list[str] = []
    calls = Calls()

    async def use_calls() -> None:
        async with calls:
            calls.begin(_caller(1000), _wait(), lambda: over.append("a"))
            await asyncio.sleep(0)
            calls.begin_for(":1.2", _wait(), lambda: over.append("never ran"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use_calls()
    assert sorted(over) == ["a", "never ran"]
    assert calls.in_flight == 0


async def test_a_name_that_vanishes_takes_its_own_calls_along() -> None:
    over: list[str] = []
    async with Calls() as calls:
        for sender in (":1.1", ":1.1", ":1.2"):
            calls.begin_for(sender, _wait(), lambda sender=sender: over.append(sender))  # type: ignore[misc]
        calls.on_name_vanished(":1.1")
        calls.on_name_vanished(":1.99")
        while calls.in_flight > 1:
            await asyncio.sleep(0)
        assert over == [":1.1", ":1.1"]


@pytest.mark.parametrize(("uid", "limit"), [(1000, MAX_CALLS_PER_USER), (0, MAX_CALLS_ROOT)])
async def test_a_user_may_have_so_many_calls_in_flight(uid: int, limit: int) -> None:
    async with Calls() as calls:
        for number in range(limit):
            caller = _caller(uid, f":1.{number % 2}")
            calls.ensure_room(caller)
            calls.begin(caller, _wait(), lambda: None)
        with pytest.raises(faults.BusFault, match=f"{limit} calls") as caught:
            calls.ensure_room(_caller(uid, ":1.7"))
        assert caught.value.name == faults.LIMITS_EXCEEDED
        calls.ensure_room(_caller(1001))
        calls.on_name_vanished(":1.0")
        while calls.in_flight == limit:
            await asyncio.sleep(0)
        calls.ensure_room(_caller(uid))
