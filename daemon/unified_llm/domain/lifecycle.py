"""The states of a model, as a table.

Rule 1: every legal change of a model's state is in TRANSITIONS; nothing else may change it.
Rule 2: this file does not know who asks for a change, why, or how long it takes.
"""

from enum import StrEnum


class ModelState(StrEnum):
    """Where a model is between disk and memory. Clients treat names they do not know as unknown."""

    ABSENT = "absent"  # configured, but its file is not there
    AVAILABLE = "available"  # on disk, not loaded
    QUEUED = "queued"  # asked for; waits for memory or for a backoff to end
    LOADING = "loading"  # a worker is reading it
    READY = "ready"  # serving
    DRAINING = "draining"  # finishing what it has, taking nothing new
    STOPPING = "stopping"  # its worker has been told to go
    FAILED = "failed"  # did not load, or died too often; a load by hand tries again

    @property
    def has_worker(self) -> bool:
        """Whether a process exists for the model in this state."""
        return self in _WITH_WORKER


_S = ModelState
_WITH_WORKER = frozenset({_S.LOADING, _S.READY, _S.DRAINING, _S.STOPPING})

TRANSITIONS: dict[ModelState, frozenset[ModelState]] = {
    _S.ABSENT: frozenset({_S.AVAILABLE}),
    _S.AVAILABLE: frozenset({_S.QUEUED, _S.LOADING, _S.ABSENT}),
    _S.QUEUED: frozenset({_S.LOADING, _S.AVAILABLE, _S.FAILED, _S.ABSENT}),
    _S.LOADING: frozenset({_S.READY, _S.QUEUED, _S.FAILED, _S.STOPPING, _S.AVAILABLE}),
    _S.READY: frozenset({_S.DRAINING, _S.STOPPING, _S.AVAILABLE, _S.QUEUED, _S.FAILED}),
    _S.DRAINING: frozenset({_S.READY, _S.STOPPING, _S.AVAILABLE, _S.QUEUED, _S.FAILED}),
    _S.STOPPING: frozenset({_S.AVAILABLE, _S.QUEUED, _S.FAILED, _S.ABSENT}),
    _S.FAILED: frozenset({_S.QUEUED, _S.LOADING, _S.AVAILABLE, _S.ABSENT}),
}


def may_become(state: ModelState, following: ModelState) -> bool:
    """Whether the table allows `following` directly after `state`."""
    return following in TRANSITIONS[state]
