"""A worker's access to kept states, with a worker that may be hostile at the other end."""

import asyncio
import fcntl
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePath

from unified_llm.domain.models import Adapter, FileIdentity
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.fleet.kept_states import KeptStates, StateKind
from unified_llm.fleet.state_door import StateDoor, open_state_door
from unified_llm.worker import state_channel
from unified_llm.worker.state_channel import SEALS, Keep, Kept, Restored

_FILE = FileIdentity(1, 2, Bytes(3), 4)
_BUILD = ("llama", "1")
_CONTEXT = Tokens(512)
_ME, _YOU = "uid:1", "uid:2"


@dataclass
class Worker:
    """The far end. told: states it shall let go of. is_ended: the daemon has had enough of it."""

    connection: socket.socket
    door: StateDoor
    told: list[int] = field(default_factory=list)
    is_ended: bool = False

    def end(self) -> None:
        self.is_ended = True

    def keep(self, state: int, principal: str = _ME, size: int = 10, seals: int = SEALS) -> None:
        descriptor = os.memfd_create("state", os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        self.send(Keep(state=state, principal=principal), descriptor)
        os.close(descriptor)

    def send(self, message: Keep | Restored, descriptor: int | None = None) -> None:
        assert state_channel.send(self.connection, message, descriptor)

    def received(self) -> list[Kept]:
        found = []
        while (parcel := state_channel.receive(self.connection)) is not None:
            assert parcel.descriptor is not None
            found.append(state_channel.decode_kept(parcel))
            parcel.drop()
        return found


@asynccontextmanager
async def open_worker(
    store: KeptStates,
    identity: FileIdentity = _FILE,
    build: tuple[str, str] = _BUILD,
    adapters: tuple[Adapter, ...] = (),
) -> AsyncIterator[Worker]:
    ours, theirs = state_channel.open_pair()
    with ours, theirs, open_state_door(ours, store, identity, adapters) as door:
        worker = Worker(theirs, door)
        door.serve(build, _CONTEXT, "f16", on_dropped=worker.told.append, on_violation=worker.end)
        yield worker


def numbers(store: KeptStates, principal: str = _ME) -> list[int]:
    kind = StateKind(_FILE, *_BUILD, _CONTEXT, "f16")
    return [each.number for each in store.of(kind, principal)]


def open_store(quota: int = 1000) -> KeptStates:
    return KeptStates(Bytes(quota))


async def save(store: KeptStates, *states: int, principal: str = _ME) -> None:
    async with open_worker(store) as worker:
        worker.door.admit(principal)
        for state in states:
            worker.keep(state, principal)


async def test_what_a_worker_sent_before_its_end_is_kept_for_the_next_one() -> None:
    store = open_store()
    await save(store, 1, 2)
    async with open_worker(store) as worker:
        assert worker.received() == []
        worker.door.admit(_ME)
        worker.door.admit(_ME)
        kept = [Kept(state=2, principal=_ME), Kept(state=1, principal=_ME)]
        assert worker.received() == kept
    store.close()


async def test_a_worker_is_given_nothing_of_anyone_who_has_not_asked_it() -> None:
    store = open_store()
    await save(store, 1)
    async with open_worker(store) as worker:
        worker.door.admit(_YOU)
        assert worker.received() == []
    store.close()


async def test_a_worker_is_given_nothing_of_another_model_or_build() -> None:
    store = open_store()
    await save(store, 1)
    another = FileIdentity(1, 2, Bytes(3), 5)
    law = Adapter("law", PurePath("/law"), 1.0, another, None)
    workers: tuple[tuple[FileIdentity, tuple[str, str], tuple[Adapter, ...]], ...] = (
        (another, _BUILD, ()),
        (_FILE, ("llama", "2"), ()),
        (_FILE, _BUILD, (law,)),
    )
    for identity, build, adapters in workers:
        async with open_worker(store, identity, build, adapters) as worker:
            worker.door.admit(_ME)
            assert worker.received() == []
    store.close()


async def test_a_worker_may_save_for_those_only_who_have_asked_it() -> None:
    store = open_store()
    async with open_worker(store) as worker:
        worker.door.admit(_ME)
        worker.keep(1)
        worker.keep(2, _YOU)
        worker.door.read()
        assert worker.is_ended
    assert store.used == 0  # of one that lies, nothing is kept


async def test_what_is_no_sealed_memory_ends_the_worker() -> None:
    for seals in (0, SEALS & ~fcntl.F_SEAL_GROW, SEALS & ~fcntl.F_SEAL_WRITE):
        store = open_store()
        async with open_worker(store) as worker:
            worker.door.admit(_ME)
            worker.keep(1, seals=seals)
            worker.door.read()
            assert worker.is_ended
        assert store.used == 0
    for with_null in (True, False):
        store = open_store()
        async with open_worker(store) as worker:
            worker.door.admit(_ME)
            with open("/dev/null", "rb") as null:
                message = Keep(state=1, principal=_ME)
                worker.send(message, null.fileno() if with_null else None)
            worker.door.read()
            assert worker.is_ended


async def test_what_cannot_be_read_ends_the_worker() -> None:
    async with open_worker(open_store()) as worker:
        worker.connection.send(b"nonsense")
        worker.door.read()
        assert worker.is_ended


async def test_a_worker_that_ends_is_no_violation() -> None:
    async with open_worker(open_store()) as worker:
        worker.connection.close()
        worker.door.read()
        worker.door.admit(_ME)
        assert not worker.is_ended


async def test_after_a_death_nothing_that_the_worker_had_is_used_again() -> None:
    store = open_store()
    await save(store, 1)
    await save(store, 2, principal=_YOU)
    async with open_worker(store) as worker:
        worker.door.admit(_ME)
        worker.keep(3)
        worker.door.distrust()
    assert numbers(store) == []
    assert numbers(store, _YOU) == [2]  # that one it has never seen
    store.close()


async def test_a_state_that_is_spent_is_dropped_and_one_that_served_stays_longer() -> None:
    store = open_store(20)
    await save(store, 1, 2)
    async with open_worker(store) as worker:
        worker.door.admit(_ME)
        worker.send(Restored(state=1, is_spent=False))
        worker.keep(3)
        worker.door.read()
        assert numbers(store) == [3, 1]
        assert worker.told == [2]
        worker.send(Restored(state=3, is_spent=True))
        worker.door.read()
        assert numbers(store) == [1]
        assert worker.told == [2]
    store.close()


async def test_a_worker_has_no_say_over_states_that_it_was_not_given() -> None:
    store = open_store()
    await save(store, 1)
    async with open_worker(store) as worker:
        worker.send(Restored(state=1, is_spent=True))
        worker.door.read()
    assert numbers(store) == [1]
    store.close()


async def test_a_worker_is_told_when_the_store_takes_nothing() -> None:
    store = open_store(5)
    async with open_worker(store) as worker:
        worker.door.admit(_ME)
        worker.keep(1, size=6)
        worker.door.read()
        assert worker.told == [1]
        assert not worker.is_ended


async def test_a_flood_is_read_in_parts_by_the_event_loop() -> None:
    store = open_store(10**6)
    async with open_worker(store) as worker:
        worker.door.admit(_ME)
        for state in range(40):
            worker.keep(state)
        worker.door.read()
        assert 0 < len(numbers(store)) < 40
        while len(numbers(store)) < 40:
            await asyncio.sleep(0)
    store.close()
