"""Who is told of a budget that is nearly spent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.bus.front_door import ask, open_front_door
from tests.private_bus import PrivateBus, as_whom, effective_user
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.names import BUS_NAME, MANAGER_INTERFACE
from unified_llm.domain.events import BudgetNearlySpent
from unified_llm.domain.money import DOLLAR, Money
from unified_llm.routing.budget import Limit, Period

pytestmark = [pytest.mark.system, pytest.mark.slow]

MONTH = "2026-11"


def warning(principal: str | None, budget: str = "small") -> BudgetNearlySpent:
    return BudgetNearlySpent(budget, MONTH, principal, Money(4 * DOLLAR), Money(5 * DOLLAR))


@asynccontextmanager
async def open_listener(
    bus: PrivateBus, user: str, heard: list[tuple[str, object]]
) -> AsyncIterator[BusConnection]:
    """Somebody who has called a method, and hears of every signal that the bus lets them."""
    async with AsyncExitStack() as stack:
        with effective_user(user):
            client = await stack.enter_async_context(open_connection(bus.address))
        (owner,) = await client.call_bus("GetNameOwner", "s", BUS_NAME)
        await client.add_match(f"type='signal',member='BudgetWarning',sender='{BUS_NAME}'")
        client.on_signal(
            str(owner),
            MANAGER_INTERFACE,
            "BudgetWarning",
            lambda signal: heard.append((user, signal.body)),
        )
        await ask(client, "ListRoutes", "a{sv}", {})
        yield client


async def test_who_has_a_part_in_an_account_is_told_and_root_and_nobody_else(
    shared_bus: PrivateBus,
) -> None:
    heard: list[tuple[str, object]] = []
    theirs = f"uid:{as_whom('nobody')['user']}"
    limits = [
        Limit("small", Money(5 * DOLLAR), Period.MONTH, is_shared=True),
        Limit("team", Money(5 * DOLLAR), Period.MONTH, frozenset({theirs}), is_shared=True),
    ]
    async with (
        open_front_door(shared_bus, limits=limits) as front,
        open_listener(shared_bus, "root", heard) as root,
        open_listener(shared_bus, "nobody", heard) as nobody,
        open_listener(shared_bus, "games", heard) as games,
        asyncio.timeout(60),
    ):

        async def told(principal: str | None, budget: str = "small") -> list[tuple[str, object]]:
            heard.clear()
            front.house.watch(warning(principal, budget))
            for client in (root, nobody, games):
                # Its answer comes after whatever was sent to it before.
                await ask(client, "ListRoutes", "a{sv}", {})
            return sorted(heard)

        body = ("small", MONTH, theirs, "4.000000", "5.000000")
        assert await told(theirs) == [("nobody", body), ("root", body)]
        assert [user for user, _ in await told("uid:4711")] == ["root"]
        everybody = ("small", MONTH, "", "4.000000", "5.000000")
        assert await told(None) == [(user, everybody) for user in ("games", "nobody", "root")]
        some = ("team", MONTH, "", "4.000000", "5.000000")
        assert await told(None, "team") == [("nobody", some), ("root", some)]
