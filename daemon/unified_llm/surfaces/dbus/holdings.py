"""Leases and inhibitors as descriptors: closing one ends what it stands for."""

from functools import partial

from unified_llm.domain.callers import Caller
from unified_llm.domain.units import Bytes
from unified_llm.operations.inhibitors import Inhibitor, Inhibitors
from unified_llm.operations.memory_leases import LeasePurpose, LeaseState, MemoryLease, MemoryLeases
from unified_llm.surfaces.dbus.locks import Lock, open_lock


class Holdings:
    """What callers hold by a descriptor."""

    def __init__(self, leases: MemoryLeases, inhibitors: Inhibitors) -> None:
        self._leases = leases
        self._inhibitors = inhibitors
        self._locks: dict[MemoryLease | Inhibitor, Lock] = {}

    def begin_lease(
        self,
        caller: Caller,
        size: Bytes,
        who: str,
        why: str,
        purpose: LeasePurpose | None = None,
    ) -> tuple[MemoryLease, int]:
        """A lease, and the descriptor that holds it. Raises as MemoryLeases.begin."""
        lease = self._leases.begin(caller, size, who, why, purpose)
        lock, theirs = open_lock(partial(self._leases.end, lease))
        self._locks[lease] = lock
        return lease, theirs

    def begin_inhibitor(self, caller: Caller, what: str, who: str, why: str, mode: str) -> int:
        """The descriptor that holds a new inhibitor. Raises as Inhibitors.begin."""
        inhibitor = self._inhibitors.begin(caller, what, who, why, mode)
        lock, theirs = open_lock(partial(self._inhibitors.end, inhibitor))
        self._locks[inhibitor] = lock
        return theirs

    def end_lease(self, lease: MemoryLease) -> None:
        """Let go of a lease, whatever becomes of its descriptor."""
        self._leases.end(lease)

    def list_inhibitors(self, caller: Caller) -> tuple[Inhibitor, ...]:
        """Every inhibitor."""
        return self._inhibitors.list(caller)

    def on_lease_changed(self, lease: MemoryLease) -> None:
        """Forget the lock of a lease that has ended."""
        if lease.state is LeaseState.ENDED:
            self._drop(lease)

    def on_inhibitors_changed(self) -> None:
        """Forget the locks of inhibitors that have ended."""
        held = set(self._inhibitors.held)
        for holding in tuple(self._locks):
            if isinstance(holding, Inhibitor) and holding not in held:
                self._drop(holding)

    def owner_vanished(self, connection: str) -> None:
        """End what dies with its caller."""
        self._leases.owner_vanished(connection)
        self._inhibitors.owner_vanished(connection)

    def close(self) -> None:
        """End everything: the daemon is leaving the bus."""
        self._leases.end_all()
        self._inhibitors.end_all()

    def _drop(self, holding: MemoryLease | Inhibitor) -> None:
        lock = self._locks.pop(holding, None)
        if lock is not None:
            lock.close()
