"""What is held by a descriptor ends with it, with its caller, and with the daemon."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest

from tests.bus.front_door import FrontDoor, ask, open_front_door
from tests.fakes.house import GIB, TINY
from tests.private_bus import PrivateBus, effective_user
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.faults import BusFault
from unified_llm.bus.names import (
    BUS_NAME,
    LEASE_INTERFACE,
    MANAGER_INTERFACE,
    PROPERTIES_INTERFACE,
    ROOT_PATH,
)
from unified_llm.bus.values import Variant, unwrap
from unified_llm.domain.lifecycle import ModelState
from unified_llm.guard.permissions import Action
from unified_llm.operations.inhibitors import MAX_INHIBITORS_PER_UID
from unified_llm.operations.memory_leases import MAX_LEASES_PER_UID

pytestmark = [pytest.mark.system, pytest.mark.slow]

ALLOWED = {Action.RESERVE_VRAM, Action.INHIBIT, Action.GENERATE}


async def connect_as(stack: AsyncExitStack, bus: PrivateBus, user: str) -> BusConnection:
    with effective_user(user):
        return await stack.enter_async_context(open_connection(bus.address))


async def reserve(client: BusConnection, gib: int = 1, **options: Variant) -> tuple[int, str]:
    """The descriptor, and the lease's object."""
    asked = (gib * GIB, "game", "a game runs", options)
    answer = await ask(client, "ReserveVram", "tssa{sv}", *asked)
    return cast("tuple[int, str]", answer)


async def inhibit(client: BusConnection, what: str = "load") -> int:
    (held,) = await ask(client, "Inhibit", "ssss", what, "backup", "the disk is busy", "block")
    return cast("int", held)


async def until_committed(front: FrontDoor, gib: int) -> None:
    async with asyncio.timeout(30):
        while front.house.scheduler.memory_committed != gib * GIB:
            await asyncio.sleep(0.005)


def held_by(front: FrontDoor) -> list[str]:
    """Who holds an inhibitor."""
    return [each.who for each in front.house.inhibitors.held]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_lease_takes_room_and_gives_it_back(shared_bus: PrivateBus) -> None:
    async with (
        open_front_door(shared_bus, allowed=ALLOWED) as front,
        AsyncExitStack() as stack,
    ):
        client = await connect_as(stack, shared_bus, "nobody")
        held, path = await reserve(client, 8)
        assert await client.call(BUS_NAME, path, LEASE_INTERFACE, "Wait") == ("held",)
        (found,) = await client.call(
            BUS_NAME, path, PROPERTIES_INTERFACE, "GetAll", "s", LEASE_INTERFACE
        )
        told = cast("dict[str, object]", unwrap(found))
        assert {**told, "Id": 0} == {
            "Id": 0,
            "Bytes": 8 * GIB,
            "Who": "game",
            "Why": "a game runs",
            "State": "held",
        }
        job = (await front.busctl("LoadModel", "sa{sv}", "tiny", "0")).split('"')[1]
        ended = await front.run("busctl", "call", BUS_NAME, job, "org.unifiedllm1.Job", "Wait")
        assert "Programs have reserved 8.0 GiB" in ended.stdout
        os.close(held)
        await until_committed(front, 0)
        with pytest.raises(BusFault, match="There is no object"):
            await client.call(BUS_NAME, path, LEASE_INTERFACE, "Wait")
    (record,) = [
        record
        for record in front.house.trail.records
        if record["UNIFIED_LLM_ACTION"] == "reserve-vram"
    ]
    assert (record["UNIFIED_LLM_OBJECT"], record["UNIFIED_LLM_RESULT"]) == ("game", "done")


async def test_models_leave_for_a_lease_and_its_signal_tells_when(shared_bus: PrivateBus) -> None:
    async with (
        open_front_door(shared_bus, allowed=ALLOWED, obedient=False) as front,
        AsyncExitStack() as stack,
    ):
        house = front.house
        client = await connect_as(stack, shared_bus, "nobody")
        await front.busctl("LoadModel", "sa{sv}", "tiny", "0")
        house.workers.finish_load(TINY)
        held, path = await reserve(client, 8)
        waiting = client.call(BUS_NAME, path, LEASE_INTERFACE, "Wait")
        async with asyncio.TaskGroup() as group:
            wait = group.create_task(waiting)
            assert house.scheduler.status(TINY).state is ModelState.STOPPING
            await client.ping()
            assert not wait.done()
            house.workers.finish_stop(TINY)
        assert wait.result() == ("held",)
        os.close(held)
        await until_committed(front, 0)


async def test_others_are_told_when_memory_is_first_taken_and_when_all_is_given_back(
    shared_bus: PrivateBus,
) -> None:
    async with (
        open_front_door(shared_bus, allowed=ALLOWED),
        open_connection(shared_bus.address) as client,
    ):
        told: list[tuple[object, ...]] = []
        (owner,) = await client.call_bus("GetNameOwner", "s", BUS_NAME)
        client.on_signal(
            str(owner), MANAGER_INTERFACE, "PrepareForUnload", lambda found: told.append(found.body)
        )
        await client.add_match("type='signal',member='PrepareForUnload'")
        leases = [await reserve(client) for _ in range(2)]
        for held, path in leases:
            assert told == [(True, "lease")]
            await client.call(BUS_NAME, path, LEASE_INTERFACE, "Release")
            os.close(held)
        assert told == [(True, "lease"), (False, "lease")]
        told.clear()
        game, game_path = await reserve(client, purpose=Variant("s", "game"))
        other, other_path = await reserve(client)
        for path in (game_path, other_path):
            await client.call(BUS_NAME, path, LEASE_INTERFACE, "Release")
        assert told == [
            (begins, reason) for begins in (True, False) for reason in ("gamemode", "lease")
        ]
        os.close(game)
        os.close(other)


async def test_whatever_a_caller_holds_ends_when_it_leaves(shared_bus: PrivateBus) -> None:
    """Also while copies of its descriptors live on elsewhere."""
    async with open_front_door(shared_bus, allowed=ALLOWED) as front, AsyncExitStack() as keep:
        async with AsyncExitStack() as stack:
            client = await connect_as(stack, shared_bus, "nobody")
            before = descriptors()
            for _ in range(4):
                held, _ = await reserve(client)
                keep.callback(os.close, held)
                keep.callback(os.close, await inhibit(client))
            assert front.house.scheduler.memory_committed == 4 * GIB
            assert len(held_by(front)) == 4
        await until_committed(front, 0)
        assert held_by(front) == []
        await keep.aclose()
        assert descriptors() < before


async def test_a_lease_is_its_owners_and_nobody_elses(shared_bus: PrivateBus) -> None:
    async with (
        open_front_door(shared_bus, allowed=ALLOWED) as front,
        AsyncExitStack() as stack,
    ):
        client = await connect_as(stack, shared_bus, "nobody")
        held, path = await reserve(client)
        other = await connect_as(stack, shared_bus, "games")
        with pytest.raises(BusFault, match="There is no object"):
            await other.call(BUS_NAME, path, LEASE_INTERFACE, "Release")
        root = await stack.enter_async_context(open_connection(shared_bus.address))
        await root.call(BUS_NAME, path, LEASE_INTERFACE, "Release")
        await until_committed(front, 0)
        os.close(held)


async def test_quotas_are_per_user_and_not_per_connection(shared_bus: PrivateBus) -> None:
    async with (
        open_front_door(shared_bus, allowed=ALLOWED) as front,
        AsyncExitStack() as stack,
    ):
        clients = [await connect_as(stack, shared_bus, "nobody") for _ in range(2)]
        for number in range(MAX_LEASES_PER_UID):
            answer = await ask(clients[number % 2], "ReserveVram", "tssa{sv}", 1, "a", "b", {})
            stack.callback(os.close, cast("int", answer[0]))
        for number in range(MAX_INHIBITORS_PER_UID):
            stack.callback(os.close, await inhibit(clients[number % 2], "evict"))
        with pytest.raises(BusFault, match="has 16 memory leases; 16 is the most"):
            await reserve(clients[0])
        with pytest.raises(BusFault, match="has 16 inhibitors; 16 is the most"):
            await inhibit(clients[1])
        other = await connect_as(stack, shared_bus, "games")
        stack.callback(os.close, (await reserve(other))[0])
        assert front.house.scheduler.memory_committed == GIB + MAX_LEASES_PER_UID


async def test_an_inhibitor_says_who_and_why(shared_bus: PrivateBus) -> None:
    async with (
        open_front_door(shared_bus, allowed=ALLOWED) as front,
        AsyncExitStack() as stack,
    ):
        client = await connect_as(stack, shared_bus, "nobody")
        held = await inhibit(client, "load:evict")
        listed = await front.busctl("ListInhibitors", "a{sv}", "0", user="games")
        assert listed.startswith(
            'a(ssssuu) 1 "evict:load" "backup" "the disk is busy" "block" 65534 '
        )
        job = (await front.busctl("LoadModel", "sa{sv}", "tiny", "0")).split('"')[1]
        wait = ("busctl", "call", BUS_NAME, job, "org.unifiedllm1.Job", "Wait")
        refused = (await front.run(*wait)).stdout
        assert "org.unifiedllm1.Error.Inhibited" in refused
        assert "while backup (uid 65534) keeps it from happening: the disk is busy." in refused
        os.close(held)
        async with asyncio.timeout(30):
            while front.house.inhibitors.held:
                await asyncio.sleep(0.005)
        job = (await front.busctl("LoadModel", "sa{sv}", "tiny", "0")).split('"')[1]
        assert '"done"' in (await front.run(*wait[:3], job, *wait[4:])).stdout


@pytest.mark.parametrize(
    ("member", "signature", "values", "text"),
    [
        ("Inhibit", "ssss", ("sleep", "a", "b", "block"), "'sleep' is nothing that can be inhib"),
        ("Inhibit", "ssss", ("load", "a", "b", "soon"), "There is no mode 'soon'"),
        ("Inhibit", "ssss", ("load", "a", "b", "delay"), "Only suspend-unload can be delayed"),
        (
            "Inhibit",
            "ssss",
            ("load:suspend-unload", "a", "b", "delay"),
            "Only suspend-unload can be delayed",
        ),
        ("Inhibit", "ssss", ("load", "a\n", "b", "block"), "who must be 1 to 200 printable"),
        ("ReserveVram", "tssa{sv}", (0, "a", "b", {}), "0 bytes can not be reserved"),
        ("ReserveVram", "tssa{sv}", (2**63, "a", "b", {}), "can not be reserved; the budget is"),
        ("ReserveVram", "tssa{sv}", (1, "", "b", {}), "who must be 1 to 200 printable"),
    ],
)
async def test_nonsense_is_refused_by_name(
    member: str, signature: str, values: tuple[object, ...], text: str, shared_bus: PrivateBus
) -> None:
    async with (
        open_front_door(shared_bus),
        open_connection(shared_bus.address) as client,
        asyncio.timeout(30),
    ):
        with pytest.raises(BusFault, match=text):
            await ask(client, member, signature, *values)


async def test_a_delay_is_shown_as_long_as_it_is_held(shared_bus: PrivateBus) -> None:
    async with (
        open_front_door(shared_bus, allowed=ALLOWED) as front,
        AsyncExitStack() as stack,
    ):
        inhibitors = front.house.inhibitors
        client = await connect_as(stack, shared_bus, "nobody")
        (held,) = await ask(client, "Inhibit", "ssss", "suspend-unload", "app", "saves", "delay")
        assert await delay_inhibited(client) == "suspend-unload"
        assert blocks_unload(front) is False
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            waiting = group.create_task(inhibitors.undelayed())
            await client.ping()
            assert not waiting.done()
            os.close(cast("int", held))
        assert await delay_inhibited(client) == ""
        (held,) = await ask(client, "Inhibit", "ssss", "suspend-unload", "app", "stays", "block")
        assert blocks_unload(front) is True
        assert await delay_inhibited(client) == ""
        os.close(cast("int", held))


def blocks_unload(front: FrontDoor) -> bool:
    return front.house.inhibitors.is_unload_blocked


async def delay_inhibited(client: BusConnection) -> str:
    wanted = (MANAGER_INTERFACE, "DelayInhibited")
    (value,) = await client.call(BUS_NAME, ROOT_PATH, PROPERTIES_INTERFACE, "Get", "ss", *wanted)
    return cast("str", unwrap(value))
