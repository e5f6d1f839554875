"""The saved states of conversations, which outlive the workers that saved them.

Rule 1: a state serves the principal it was saved for, on model and adapter files that are the same,
in the same build, context and cache type; nobody else is ever given it.
Rule 2: together they are never larger than the quota; those of no use for longest go first.
Rule 3: the bytes are in memory without a name, behind a descriptor; nobody here looks at them, and
with the daemon they are gone.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.models import Adapter, FileIdentity, ModelId, ModelSpec
from unified_llm.domain.units import Bytes, Tokens

MAX_STATES: Final = 256
"""Each is an open descriptor of the daemon's."""


@dataclass(frozen=True, slots=True)
class StateKind:
    """What a worker must have in common with the one that saved a state.

    engine, build: as the worker says. context_tokens: of one slot, which bounds a state.
    cache_type: how keys and values are kept in it. adapters: those it was loaded with; in which of
    them a state was computed, the state says itself.
    """

    identity: FileIdentity
    engine: str
    build: str
    context_tokens: Tokens
    cache_type: str
    adapters: tuple[Adapter, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptState:
    """One conversation's state. descriptor: the store's own."""

    number: int
    kind: StateKind
    principal: str
    descriptor: int
    size_bytes: Bytes


OnDropped = Callable[[int], None]
"""Takes the number of a state that is kept no more."""


class KeptStates:
    """The store. quota: most bytes of all states together; 0 keeps none."""

    def __init__(self, quota: Bytes, close: Callable[[int], None] = os.close) -> None:
        self.quota = quota
        self._close = close
        self._states: dict[int, KeptState] = {}  # those of no use for longest come first
        self._watchers: dict[int, OnDropped] = {}
        self._watches = 0
        self._is_closed = quota == 0

    @property
    def is_closed(self) -> bool:
        """Whether nothing is kept any more."""
        return self._is_closed

    @property
    def used(self) -> Bytes:
        """What is kept now."""
        return Bytes(sum(state.size_bytes for state in self._states.values()))

    def watch(self, on_dropped: OnDropped) -> Callable[[], None]:
        """Be told of states that are dropped, until the result is called."""
        self._watches += 1
        number = self._watches
        self._watchers[number] = on_dropped
        return lambda: self._unwatch(number)

    def _unwatch(self, number: int) -> None:
        self._watchers.pop(number, None)

    def add(self, state: KeptState) -> bool:
        """Take a state over; False, and it is closed, if it is too large or known already."""
        if self._is_closed or state.number in self._states or state.size_bytes > self.quota:
            self._close(state.descriptor)
            return False
        while self.used + state.size_bytes > self.quota or len(self._states) >= MAX_STATES:
            self.drop(next(iter(self._states)))
        self._states[state.number] = state
        return True

    def of(self, kind: StateKind, principal: str) -> tuple[KeptState, ...]:
        """What there is for this principal; the best first, by their last use."""
        found = [s for s in self._states.values() if (s.kind, s.principal) == (kind, principal)]
        return tuple(reversed(found))

    def touch(self, number: int) -> None:
        """A state has been of use."""
        state = self._states.pop(number, None)
        if state is not None:
            self._states[number] = state

    def drop(self, number: int) -> None:
        """Keep a state no more; one that is not kept is no error."""
        state = self._states.pop(number, None)
        if state is None:
            return
        self._close(state.descriptor)
        for on_dropped in tuple(self._watchers.values()):
            on_dropped(number)

    def replace_catalogue(self, specs: Mapping[ModelId, ModelSpec]) -> None:
        """These are all the models from now on: what belongs to other files is dropped."""
        files = {(spec.identity, spec.sound_adapters) for spec in specs.values()}
        for state in tuple(self._states.values()):
            if (state.kind.identity, state.kind.adapters) not in files:
                self.drop(state.number)

    def close(self) -> None:
        """Drop all, and keep nothing from now on."""
        self._is_closed = True
        for number in tuple(self._states):
            self.drop(number)
