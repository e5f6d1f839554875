"""Memory that a program takes for itself, and models leave: a game, a renderer, a video call.

Rule 1: a lease ends when its holder lets go of it or leaves; nobody can forget one.
Rule 2: it is granted at once and held when the models have left, which may take as long as the
answers they are giving. It counts from the first moment: nothing new is loaded into it.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NewType

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.units import Bytes
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Gate
from unified_llm.operations.holdings import ensure_plain, ensure_within_quota
from unified_llm.scheduler.effects import Ticket
from unified_llm.scheduler.loop import SchedulerLoop

LeaseId = NewType("LeaseId", int)
"""1 to 2^31 - 1, drawn at random, so that nobody guesses another's."""

MAX_LEASES_PER_UID: Final = 16


class LeasePurpose(StrEnum):
    """What the memory is for, as far as it matters to others."""

    GAME = "game"


class LeaseState(StrEnum):
    """Where a lease is."""

    MAKING_ROOM = "making-room"
    HELD = "held"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class MemoryLease:
    """Memory taken from the models. who, why: in the holder's words, for people.

    purpose: None if the holder has not said any.
    """

    id: LeaseId
    owner: Caller
    size: Bytes
    who: str
    why: str
    purpose: LeasePurpose | None = None
    state: LeaseState = LeaseState.MAKING_ROOM
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the lease is held, or has ended before it was."""
    record: ExitStack = field(default_factory=ExitStack)


class MemoryLeases:
    """All leases. on_change: told of each that begins, is held, or has ended; returns at once."""

    def __init__(self, gate: Gate, scheduler: SchedulerLoop) -> None:
        self._gate = gate
        self._scheduler = scheduler
        self._leases: dict[LeaseId, tuple[MemoryLease, Ticket]] = {}
        self.on_change: Callable[[MemoryLease], None] = lambda lease: None

    @property
    def is_gaming(self) -> bool:
        """Whether any was taken for a game."""
        return any(lease.purpose is LeasePurpose.GAME for lease, _ in self._leases.values())

    def begin(
        self,
        caller: Caller,
        size: Bytes,
        who: str,
        why: str,
        purpose: LeasePurpose | None = None,
    ) -> MemoryLease:
        """Take `size` from the models. The use is recorded when the lease ends.

        Raises NotPermitted, InvalidRequest, RateLimited, NoRoom, Closing.
        """
        with ExitStack() as record:
            record.enter_context(self._gate.open_entry(caller, Action.RESERVE_VRAM, who))
            ensure_plain(who=who, why=why)
            if size < 1:
                raise InvalidRequest(f"{size} bytes can not be reserved.", parameter="bytes")
            own = [lease for lease, _ in self._leases.values() if lease.owner.uid == caller.uid]
            ensure_within_quota(caller, len(own), MAX_LEASES_PER_UID, "memory leases")
            lease = MemoryLease(self._draw_id(), caller, size, who, why, purpose)
            ticket = self._scheduler.reserve(size, lambda: self._hold(lease))
            self._leases[lease.id] = lease, ticket
            lease.record = record.pop_all()
        self.on_change(lease)
        return lease

    def end(self, lease: MemoryLease) -> None:
        """Give the memory back to the models; harmless if it was before."""
        found = self._leases.pop(lease.id, None)
        if found is None:
            return
        lease.state = LeaseState.ENDED
        lease.settled.set()
        self._scheduler.unreserve(found[1])
        lease.record.close()
        self.on_change(lease)

    def owner_vanished(self, connection: str) -> None:
        """End what dies with its caller."""
        for lease, _ in tuple(self._leases.values()):
            if lease.owner.connection == connection:
                self.end(lease)

    def end_all(self) -> None:
        """End every lease: the daemon stops."""
        for lease, _ in tuple(self._leases.values()):
            self.end(lease)

    def _hold(self, lease: MemoryLease) -> None:
        lease.state = LeaseState.HELD
        lease.settled.set()
        if lease.id in self._leases:
            self.on_change(lease)

    def _draw_id(self) -> LeaseId:
        while (drawn := LeaseId(1 + secrets.randbelow(2**31 - 1))) in self._leases:
            pass
        return drawn
