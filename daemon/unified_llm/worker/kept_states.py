"""The states a worker keeps: saved when a slot is needed or the model leaves, restored on return.

Rule 1: the daemon has its own hold on every state, so they outlive this process; what it says is to
be dropped is dropped.
Rule 2: nothing here is needed to answer. Whatever goes wrong, the prompt is computed.
Rule 3: it never waits for the daemon.
"""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import randbits
from typing import Final, Protocol

from unified_llm.worker.protocol import ProtocolError
from unified_llm.worker.state_channel import (
    MAX_PRINCIPAL_CHARACTERS,
    Keep,
    Parcel,
    Restored,
    decode_kept,
    receive,
    send,
)
from unified_llm.worker.state_file import (
    StateFile,
    StateFileError,
    file_bytes,
    read_state,
    restore_state,
    write_state,
)
from unified_llm.worker.state_index import Offer, StateIndex

_MOST_STATES: Final = 64  # each is an open descriptor


class StateMemory(Protocol):
    """The part of a Model that states are saved from and restored to."""

    context_tokens: int

    def state_bytes(self, slot: int) -> int:
        """Bytes of the state of a slot; 0 if it has none that could be restored."""

    def save_state(self, slot: int, room: memoryview) -> bool:
        """Fill `room`, which has `state_bytes`; False if that fails."""

    def restore_state(self, slot: int, state: memoryview) -> bool:
        """Replace what the slot remembers; what is in it is unknown if that fails."""


@dataclass(frozen=True, slots=True)
class _Held:
    descriptor: int
    file: StateFile


class KeptStates:
    """States of one model. limit_bytes: a larger one is not kept.

    connection: to the daemon. draw_id: a number below 2^62 that was not used before.
    """

    def __init__(
        self,
        connection: socket.socket,
        limit_bytes: int,
        draw_id: Callable[[], int] = lambda: randbits(62),
    ) -> None:
        self.index = StateIndex()
        self._connection = connection
        self._limit_bytes = limit_bytes
        self._draw_id = draw_id
        self._held: dict[int, _Held] = {}

    def take_delivered(self, memory: StateMemory) -> None:
        """Take what the daemon has sent for the requests that follow."""
        while (parcel := self._receive()) is not None:
            try:
                self._admit(parcel, memory)
            except (ProtocolError, StateFileError) as error:
                sys.stderr.write(f"a kept state is not used: {error}\n")
                parcel.drop()

    def keep(
        self,
        memory: StateMemory,
        slot: int,
        principal: str,
        tokens: Sequence[int],
        adapter: str | None = None,
    ) -> None:
        """Save what `slot` remembers, which is `tokens` and nothing else, computed with that."""
        is_kept = self.index.covers(principal, tokens, adapter)
        if is_kept or len(principal) > MAX_PRINCIPAL_CHARACTERS:
            return
        size = memory.state_bytes(slot)
        if not size or file_bytes(len(tokens), size) > self._limit_bytes:
            return
        try:
            descriptor = write_state(
                tokens, size, lambda room: memory.save_state(slot, room), adapter
            )
        except OSError as error:
            sys.stderr.write(f"a state of {size} bytes cannot be kept: {error}\n")
            return
        if descriptor is not None:
            self._hand_over(descriptor, principal, memory)

    def restore(self, memory: StateMemory, slot: int, offer: Offer) -> bool:
        """Fill `slot` with a state; what is in it is unknown if that fails."""
        held = self._held.get(offer.state)
        if held is None:
            return False
        try:
            is_restored = restore_state(
                held.descriptor, held.file, lambda state: memory.restore_state(slot, state)
            )
        except (OSError, StateFileError) as error:
            sys.stderr.write(f"a kept state is not used: {error}\n")
            is_restored = False
        if not is_restored:
            self._spend(offer.state)
        return is_restored

    def used(self, offer: Offer) -> None:
        """What was restored has served; a conversation that goes on needs it no more."""
        if offer.is_same_conversation:
            self._spend(offer.state)
        else:
            self.index.touch(offer.state)
            send(self._connection, Restored(state=offer.state, is_spent=False), None)

    def drop(self, state: int) -> None:
        """Let go of a state; one that is not there is no error."""
        self.index.remove(state)
        held = self._held.pop(state, None)
        if held is not None:
            os.close(held.descriptor)

    def close(self) -> None:
        """Let go of all; the daemon has them still."""
        for state in tuple(self._held):
            self.drop(state)

    def _receive(self) -> Parcel | None:
        try:
            return receive(self._connection)
        except EOFError:
            return None

    def _admit(self, parcel: Parcel, memory: StateMemory) -> None:
        message = decode_kept(parcel)
        if parcel.descriptor is None:
            raise ProtocolError("there is no state with it")
        file = read_state(parcel.descriptor, memory.context_tokens)
        self._hold(message.state, message.principal, _Held(parcel.descriptor, file))

    def _hand_over(self, descriptor: int, principal: str, memory: StateMemory) -> None:
        state = self._draw_id()
        if send(self._connection, Keep(state=state, principal=principal), descriptor):
            file = read_state(descriptor, memory.context_tokens)
            self._hold(state, principal, _Held(descriptor, file))
        else:
            os.close(descriptor)

    def _hold(self, state: int, principal: str, held: _Held) -> None:
        for needless in self.index.add(state, principal, held.file.tokens, held.file.adapter):
            self._spend(needless)
        self._held[state] = held
        if len(self._held) > _MOST_STATES:
            self.drop(self.index.oldest())

    def _spend(self, state: int) -> None:
        self.drop(state)
        send(self._connection, Restored(state=state, is_spent=True), None)
