"""One worker's access to the kept states: what it is given, and what is taken from it.

A worker counts as hostile. It is given a principal's states when that principal asks it for
something, and may save for those only; a descriptor of anything but sealed memory, or a word
against the protocol, ends it. If it dies, no state that it had is used again: one of them may be
what killed it.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from unified_llm.domain.models import Adapter, FileIdentity
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.fleet.kept_states import KeptState, KeptStates, StateKind
from unified_llm.worker.protocol import ProtocolError
from unified_llm.worker.state_channel import (
    Keep,
    Kept,
    Parcel,
    Restored,
    decode_from_worker,
    receive,
    sealed_size,
    send,
)

_log = logging.getLogger(__name__)

_MOST_AT_ONCE: Final = 32  # datagrams read, or states given, before others have their turn


class StateDoor:
    """Our end of a worker's channel for states. Made by open_state_door.

    on_dropped: tells the worker that a state it may have is kept no more. on_violation: ends it.
    """

    def __init__(
        self,
        connection: socket.socket,
        store: KeptStates,
        identity: FileIdentity,
        adapters: tuple[Adapter, ...],
    ) -> None:
        self._connection = connection
        self._store = store
        self._identity = identity
        self._adapters = adapters
        self._kind: StateKind | None = None
        self._served: set[str] = set()
        self._lent: set[int] = set()
        self._is_over = False
        self._tell_dropped: Callable[[int], None] = _untold
        self._end_worker: Callable[[], None] = _unasked

    @property
    def saves(self) -> bool:
        """Whether it is worth it for the worker to save what it has."""
        return not self._store.is_closed

    def serve(
        self,
        build: tuple[str, str],
        context_tokens: Tokens,
        cache_type: str,
        *,
        on_dropped: Callable[[int], None],
        on_violation: Callable[[], None],
    ) -> None:
        """The worker has loaded its model. build: its engine and the engine's version."""
        self._kind = StateKind(self._identity, *build, context_tokens, cache_type, self._adapters)
        self._tell_dropped, self._end_worker = on_dropped, on_violation

    def admit(self, principal: str) -> None:
        """This principal is about to ask the worker: give it what was kept for it."""
        if self._kind is None or principal in self._served:
            return
        self._served.add(principal)
        for state in self._store.of(self._kind, principal)[:_MOST_AT_ONCE]:
            message = Kept(state=state.number, principal=principal)
            if send(self._connection, message, state.descriptor):
                self._lent.add(state.number)

    def distrust(self) -> None:
        """The worker has died or broken the protocol: what it had is not used again."""
        self.read_rest()
        for number in tuple(self._lent):
            self._store.drop(number)

    def read(self) -> None:
        """Take what the worker has sent, a part at a time."""
        for _ in range(_MOST_AT_ONCE):
            if not self._read_one():
                return

    def read_rest(self) -> None:
        """Take all that is there, after the end of the worker."""
        while self._read_one():
            pass

    def on_dropped(self, number: int) -> None:
        """The store has dropped a state."""
        if number in self._lent:
            self._lent.discard(number)
            self._tell_dropped(number)

    def _read_one(self) -> bool:
        if self._is_over:
            return False
        try:
            parcel = receive(self._connection)
        except EOFError:
            self._stop_reading()
            return False
        if parcel is None:
            return False
        try:
            self._take(parcel)
        except ProtocolError as error:
            parcel.drop()
            _log.warning("a worker broke the protocol of kept states: %s", error)
            self._stop_reading()
            self.distrust()
            self._end_worker()
        return not self._is_over

    def _stop_reading(self) -> None:
        self._is_over = True
        asyncio.get_running_loop().remove_reader(self._connection)

    def _take(self, parcel: Parcel) -> None:
        message = decode_from_worker(parcel)
        if isinstance(message, Restored):
            self._on_restored(message)
            parcel.drop()
            return
        self._on_keep(message, parcel.descriptor)

    def _on_restored(self, message: Restored) -> None:
        if message.state not in self._lent:
            return  # dropped meanwhile
        if message.is_spent:
            self._lent.discard(message.state)
            self._store.drop(message.state)
        else:
            self._store.touch(message.state)

    def _on_keep(self, message: Keep, descriptor: int | None) -> None:
        if self._kind is None or message.principal not in self._served:
            raise ProtocolError("it saves for somebody who has asked it nothing")
        if descriptor is None:
            raise ProtocolError("there is no state with it")
        state = KeptState(
            number=message.state,
            kind=self._kind,
            principal=message.principal,
            descriptor=descriptor,
            size_bytes=Bytes(sealed_size(descriptor)),
        )
        if self._store.add(state):
            self._lent.add(message.state)
        else:
            self._tell_dropped(message.state)


@contextmanager
def open_state_door(
    ours: socket.socket,
    store: KeptStates,
    identity: FileIdentity,
    adapters: tuple[Adapter, ...] = (),
) -> Iterator[StateDoor]:
    """Read `ours` while the context lasts; what a worker sent before its end is still taken."""
    loop = asyncio.get_running_loop()
    door = StateDoor(ours, store, identity, adapters)
    unwatch = store.watch(door.on_dropped)
    loop.add_reader(ours, door.read)
    try:
        yield door
    finally:
        door.read_rest()
        unwatch()
        loop.remove_reader(ours)


def _untold(_: int) -> None:
    pass


def _unasked() -> None:
    pass
