"""Memory that models leave for as long as somebody here needs it, by `ReserveVram`."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, cast

from unified_llm.bus.client import FOREVER, BusClient
from unified_llm.bus.connection import CALL_SECONDS, BusConnection
from unified_llm.bus.faults import DISCONNECTED, BusFault
from unified_llm.bus.following import open_owner_news, owner_of
from unified_llm.bus.names import BUS_NAME, LEASE_INTERFACE, MANAGER_INTERFACE, ROOT_PATH
from unified_llm.bus.values import Variant
from unified_llm.cli.management import ASKING_SECONDS
from unified_llm.domain.errors import Cancelled, NoRoom, UnifiedLlmError
from unified_llm.domain.units import Bytes, Seconds, render_bytes

_SMALLEST: Final = Bytes(256 * 2**20)
_HELD: Final = "held"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted. who, why: shown to others; 1 to 200 printable characters."""

    size: Bytes
    who: str
    why: str
    is_game: bool = False


@asynccontextmanager
async def open_lease(
    client: BusClient, wish: Wish, *, may_interact: bool, may_start: bool
) -> AsyncIterator[str]:
    """The object of a lease that ends with the body. Models may still be leaving.

    may_interact: polkit may ask for a password. may_start: have the daemon started for it.
    Raises UnifiedLlmError, BusFault.
    """
    held, path = await client.call(
        ROOT_PATH,
        MANAGER_INTERFACE,
        "ReserveVram",
        "tssa{sv}",
        wish.size,
        wish.who,
        wish.why,
        {"purpose": Variant("s", "game")} if wish.is_game else {},
        expects="ho",
        timeout=ASKING_SECONDS if may_interact else CALL_SECONDS,
        may_interact=may_interact,
        may_start=may_start,
    )
    try:
        yield cast("str", path)
    finally:
        os.close(cast("int", held))


async def ensure_held(client: BusClient, lease: str) -> None:
    """Return when the models have left it. Raises Cancelled if it has ended before, BusFault."""
    (state,) = await client.call(lease, LEASE_INTERFACE, "Wait", expects="s", timeout=FOREVER)
    if state != _HELD:
        raise Cancelled("The lease was ended by somebody else before the memory was free.")


async def keep_lease(
    bus: BusConnection, wish: Wish, *, retry: Seconds, tell: Callable[[str], None]
) -> None:
    """Hold what is wished, or as much of it as there is, until cancelled.

    From a daemon that comes later or again, too; it is never started for this. A refusal is tried
    again after `retry` seconds. tell: what becomes of it, for people. Raises BusFault off the bus.
    """
    client = BusClient(bus, BUS_NAME)
    news = asyncio.Event()
    async with open_owner_news(bus, BUS_NAME, news.set):
        while True:
            news.clear()
            if not await owner_of(bus, BUS_NAME):
                tell("the daemon does not run, so no model holds memory")
                await news.wait()
                continue
            try:
                async with _open_most(client, wish) as size:
                    tell(f"{render_bytes(size)} are kept free of models")
                    await news.wait()
            except (UnifiedLlmError, BusFault) as error:
                if isinstance(error, BusFault) and error.name == DISCONNECTED:
                    raise
                tell(f"nothing is kept free of models: {error}")
                await _wait_at_most(news, retry)


@asynccontextmanager
async def _open_most(client: BusClient, wish: Wish) -> AsyncIterator[Bytes]:
    """The size of a lease on what is wished, or on half, a quarter, … if there is not so much."""
    size = wish.size
    while True:
        smaller = Bytes(size // 2)
        part = replace(wish, size=size)
        opening = open_lease(client, part, may_interact=False, may_start=False)
        try:
            await opening.__aenter__()
        except NoRoom:
            if smaller < _SMALLEST:
                raise
            size = smaller
            continue
        try:
            yield size
        finally:
            await opening.__aexit__(None, None, None)
        return


async def _wait_at_most(event: asyncio.Event, limit: Seconds) -> None:
    try:
        async with asyncio.timeout(limit):
            await event.wait()
    except TimeoutError:
        return
