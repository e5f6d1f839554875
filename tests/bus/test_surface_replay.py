"""What signals tell and what GetManagedObjects tells is the same story."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from tests.bus.front_door import FrontDoor, ask, open_front_door
from tests.fakes.house import BIG, GIB, ROOT, TINY
from tests.private_bus import PrivateBus
from unified_llm.bus.connection import BusConnection, Signal, open_connection
from unified_llm.bus.faults import BusFault
from unified_llm.bus.interface import ChangeSignal
from unified_llm.bus.names import (
    BUS_NAME,
    JOB_INTERFACE,
    MANAGER_INTERFACE,
    OBJECT_MANAGER_INTERFACE,
    PROPERTIES_INTERFACE,
    ROOT_PATH,
)
from unified_llm.bus.values import unwrap
from unified_llm.domain.devices import DeviceId, DeviceMemory
from unified_llm.domain.errors import ModelFailedToLoad, NoRoom, RateLimited, WorkerDied
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes
from unified_llm.operations import jobs
from unified_llm.surfaces.dbus import contract

pytestmark = [pytest.mark.system, pytest.mark.slow]

MODELS = (TINY, BIG, ModelId("cat"), ModelId("0wl"))
STEPS = 1000
UNTOLD = {
    (interface.name, name)
    for interface in (contract.MODEL, contract.JOB, contract.GPU)
    for name, found in interface.properties.items()
    if found.emits is ChangeSignal.NONE
}
Objects = dict[str, dict[str, dict[str, object]]]


class Replay:
    """The objects as somebody knows them who only listens."""

    def __init__(self, client: BusConnection, sender: str) -> None:
        self.objects: Objects = {}
        self.new: list[object] = []
        self.removed: list[object] = []
        for interface, member, callback in (
            (OBJECT_MANAGER_INTERFACE, "InterfacesAdded", self._on_added),
            (OBJECT_MANAGER_INTERFACE, "InterfacesRemoved", self._on_removed),
            (PROPERTIES_INTERFACE, "PropertiesChanged", self._on_changed),
            (MANAGER_INTERFACE, "JobNew", lambda found: self.new.append(found.body[0])),
            (MANAGER_INTERFACE, "JobRemoved", lambda found: self.removed.append(found.body[0])),
        ):
            client.on_signal(sender, interface, member, callback)

    def _on_added(self, signal: Signal) -> None:
        assert signal.path == ROOT_PATH
        path, interfaces = cast("tuple[str, dict[str, Any]]", signal.body)
        assert path not in self.objects
        self.objects[path] = cast("dict[str, dict[str, object]]", unwrap(interfaces))

    def _on_removed(self, signal: Signal) -> None:
        path, interfaces = cast("tuple[str, list[str]]", signal.body)
        assert set(self.objects.pop(path)) == set(interfaces)

    def _on_changed(self, signal: Signal) -> None:
        interface, changed, invalidated = cast("tuple[str, dict[str, Any], list[str]]", signal.body)
        assert not invalidated
        if signal.path != ROOT_PATH:
            told = cast("dict[str, object]", unwrap(changed))
            assert not UNTOLD & {(interface, name) for name in told}
            self.objects[signal.path][interface] |= told


async def managed(client: BusConnection) -> Objects:
    (found,) = await client.call(
        BUS_NAME, ROOT_PATH, OBJECT_MANAGER_INTERFACE, "GetManagedObjects", expects="a{oa{sa{sv}}}"
    )
    return cast("Objects", unwrap(found))


def told_part(objects: Objects) -> Objects:
    return {
        path: {
            interface: {
                name: value for name, value in values.items() if (interface, name) not in UNTOLD
            }
            for interface, values in interfaces.items()
        }
        for path, interfaces in objects.items()
    }


async def settled(replay: Replay, listener: BusConnection) -> None:
    """Wait until both stories agree; jobs are forgotten meanwhile, and nothing else happens."""
    async with asyncio.timeout(30):
        while told_part(replay.objects) != told_part(await managed(listener)):
            await asyncio.sleep(0.005)


class Operations:
    """Random things that happen to the daemon."""

    def __init__(self, front: FrontDoor, client: BusConnection, seed: int) -> None:
        self._front = front
        self._client = client
        self._random = random.Random(seed)

    async def step(self) -> None:
        await self._random.choice([self._load, self._unload, self._cancel, self._report])()

    async def _load(self) -> None:
        await self._ask("LoadModel", "sa{sv}", self._random.choice(MODELS), {})

    async def _unload(self) -> None:
        await self._ask("UnloadModel", "sa{sv}", self._random.choice(MODELS), {})

    async def _cancel(self) -> None:
        jobs_now = [path for path in await managed(self._client) if "/job/" in path]
        if jobs_now:
            path = self._random.choice(jobs_now)
            try:
                await self._client.call(BUS_NAME, path, JOB_INTERFACE, "Cancel")
            except BusFault as fault:
                # It may be forgotten by the time the call arrives.
                assert fault.name.endswith("UnknownObject")  # noqa: PT017

    async def _report(self) -> None:
        house = self._front.house
        choices: list[Callable[[], object]] = [
            lambda: house.set_models(*self._random.sample(MODELS, self._random.randint(1, 4))),
            lambda: house.clock.advance(self._random.choice([0.5, 5, 100])),
        ]
        choices += [self._reserve, house.leases.end_all, self._change_gpus]
        if house.workers.running:
            model = self._random.choice(sorted(house.workers.running))
            generation = house.workers.running[model]
            choices += [
                lambda: house.scheduler.load_progressed(model, generation, self._random.random()),
                lambda: house.workers.finish_load(model),
                lambda: house.workers.fail_load(model, ModelFailedToLoad("No.")),
                lambda: house.workers.finish_stop(model),
                lambda: house.workers.die(model, WorkerDied("Signal 11.")),
            ]
        self._random.choice(choices)()
        await house.devices.look()

    def _change_gpus(self) -> None:
        used = Bytes(self._random.choice([0, 7, GIB]))
        self._front.house.memory.gpus = [
            DeviceMemory(DeviceId(f"gpu:{number}"), "GPU", Bytes(GIB), used)
            for number in range(self._random.randint(0, 3))
        ]

    def _reserve(self) -> None:
        size = Bytes(self._random.randint(1, 4) * GIB)
        with suppress(NoRoom, RateLimited):
            self._front.house.leases.begin(ROOT, size, "game", "it runs")

    async def _ask(self, member: str, signature: str, *values: object) -> None:
        try:
            await ask(self._client, member, signature, *values)
        except BusFault as fault:
            assert fault.name.startswith("org.unifiedllm1.Error."), fault  # noqa: PT017


@pytest.mark.parametrize("seed", range(2))
async def test_whoever_only_listens_knows_everything(
    seed: int, shared_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "KEEP_FINISHED", 0.02)
    async with (
        open_connection(shared_bus.address) as listener,
        open_front_door(shared_bus, obedient=False) as front,
        open_connection(shared_bus.address) as client,
    ):
        await listener.add_match(f"type='signal',sender='{BUS_NAME}'")
        sender = cast("str", (await listener.call_bus("GetNameOwner", "s", BUS_NAME))[0])
        front.house.set_models()
        assert await managed(listener) == {}
        replay = Replay(listener, sender)
        front.house.set_models(*MODELS)
        operations = Operations(front, client, seed)
        for step in range(STEPS):
            await operations.step()
            if step % 20 == 0:
                await settled(replay, listener)
        await settled(replay, listener)
        assert set(replay.removed) <= set(replay.new)
        assert len(replay.new) == len(set(replay.new))
