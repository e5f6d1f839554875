"""The daemon's end of a worker's channel for states, without a daemon."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from unified_llm.worker import state_channel
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.state_channel import Keep, Kept, Restored


@dataclass
class FakeStateDaemon:
    """Keeps what workers save. kept: principal and descriptor, by state. restored: in order."""

    kept: dict[int, tuple[str, int]] = field(default_factory=dict)
    restored: list[Restored] = field(default_factory=list)

    @contextmanager
    def open_states(self, limit_bytes: int = 2**30) -> Iterator[KeptStates]:
        """What one worker is given; what it has saved is taken when the context is left."""
        ours, theirs = state_channel.open_pair()
        with ours, theirs:
            for state, (principal, descriptor) in self.kept.items():
                assert state_channel.send(ours, Kept(state=state, principal=principal), descriptor)
            yield KeptStates(theirs, limit_bytes)
            self.take(ours)

    def take(self, ours: socket.socket) -> None:
        """Take all that the worker has sent so far."""
        while (parcel := state_channel.receive(ours)) is not None:
            match state_channel.decode_from_worker(parcel):
                case Keep(state=state, principal=principal):
                    assert parcel.descriptor is not None
                    state_channel.sealed_size(parcel.descriptor)
                    self.kept[state] = (principal, parcel.descriptor)
                case Restored() as restored:
                    self.restored.append(restored)
                    if restored.is_spent and restored.state in self.kept:
                        os.close(self.kept.pop(restored.state)[1])

    def close(self) -> None:
        for _, descriptor in self.kept.values():
            os.close(descriptor)
        self.kept.clear()
