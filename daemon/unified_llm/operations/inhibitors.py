"""What programs may keep the daemon from doing, as long as they hold on to it."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import Inhibited, InvalidRequest
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Gate
from unified_llm.operations.holdings import ensure_plain, ensure_within_quota
from unified_llm.scheduler.loop import SchedulerLoop

MAX_INHIBITORS_PER_UID: Final = 16


class Inhibition(StrEnum):
    """What can be kept from happening."""

    LOAD = "load"  # a model that is not loaded is not loaded
    EVICT = "evict"  # no model leaves to make room for another or for a lease
    SUSPEND_UNLOAD = "suspend-unload"  # models do not leave before the machine sleeps


class InhibitMode(StrEnum):
    """How."""

    BLOCK = "block"  # as long as it is held
    DELAY = "delay"  # for a short while, to get ready; for suspend-unload alone


@dataclass(slots=True, eq=False)
class Inhibitor:
    """One holder's wish. who, why: in its words, shown to those who are refused."""

    what: frozenset[Inhibition]
    who: str
    why: str
    mode: InhibitMode
    owner: Caller
    record: ExitStack = field(default_factory=ExitStack)


class Inhibitors:
    """All inhibitors. on_change: told when one begins or ends; returns at once."""

    def __init__(self, gate: Gate, scheduler: SchedulerLoop) -> None:
        self._gate = gate
        self._scheduler = scheduler
        self._held: list[Inhibitor] = []
        self._undelayed = asyncio.Event()
        self._undelayed.set()
        self.on_change: Callable[[], None] = lambda: None

    @property
    def held(self) -> tuple[Inhibitor, ...]:
        """Every inhibitor, the oldest first."""
        return tuple(self._held)

    @property
    def delayed(self) -> str:
        """What is held in mode delay, in words with colons between them."""
        words = {
            each for held in self._held if held.mode is InhibitMode.DELAY for each in held.what
        }
        return ":".join(sorted(words))

    @property
    def is_unload_blocked(self) -> bool:
        """Whether models are to stay in memory while the machine sleeps."""
        return any(
            Inhibition.SUSPEND_UNLOAD in each.what and each.mode is InhibitMode.BLOCK
            for each in self._held
        )

    async def undelayed(self) -> None:
        """Wait until nothing is held in mode delay."""
        await self._undelayed.wait()

    def list(self, caller: Caller) -> tuple[Inhibitor, ...]:
        """Every inhibitor; anyone may know why something does not happen."""
        with self._gate.open_entry(caller, Action.READ, "inhibitors"):
            return self.held

    def begin(self, caller: Caller, what: str, who: str, why: str, mode: str) -> Inhibitor:
        """Keep `what`, words with colons between them, from happening.

        Raises NotPermitted, InvalidRequest, RateLimited.
        """
        with ExitStack() as record:
            record.enter_context(self._gate.open_entry(caller, Action.INHIBIT, what))
            ensure_plain(who=who, why=why)
            inhibitor = Inhibitor(_parse_what(what), who, why, _parse_mode(mode), caller)
            _ensure_delayable(inhibitor)
            own = sum(each.owner.uid == caller.uid for each in self._held)
            ensure_within_quota(caller, own, MAX_INHIBITORS_PER_UID, "inhibitors")
            inhibitor.record = record.pop_all()
        self._held.append(inhibitor)
        self._tell()
        return inhibitor

    def end(self, inhibitor: Inhibitor) -> None:
        """Allow it again; harmless if it was before."""
        if inhibitor in self._held:
            self._held.remove(inhibitor)
            inhibitor.record.close()
            self._tell()

    def owner_vanished(self, connection: str) -> None:
        """End what dies with its caller."""
        for inhibitor in self.held:
            if inhibitor.owner.connection == connection:
                self.end(inhibitor)

    def end_all(self) -> None:
        """End every inhibitor: the daemon stops."""
        for inhibitor in self.held:
            self.end(inhibitor)

    def _tell(self) -> None:
        loads = next((each for each in self._held if Inhibition.LOAD in each.what), None)
        evictions = any(Inhibition.EVICT in each.what for each in self._held)
        self._scheduler.inhibit(None if loads is None else _refusal(loads), evictions=evictions)
        if self.delayed:
            self._undelayed.clear()
        else:
            self._undelayed.set()
        self.on_change()


def _ensure_delayable(inhibitor: Inhibitor) -> None:
    if inhibitor.mode is InhibitMode.DELAY and inhibitor.what != {Inhibition.SUSPEND_UNLOAD}:
        raise InvalidRequest(
            "Only suspend-unload can be delayed; what else there is can only be blocked.",
            parameter="mode",
        )


def _refusal(inhibitor: Inhibitor) -> Inhibited:
    return Inhibited(
        f"No model is loaded while {inhibitor.who} (uid {inhibitor.owner.uid}) keeps it from "
        f"happening: {inhibitor.why}.",
        hint="Models that are loaded answer; ListInhibitors shows who holds what.",
    )


def _parse_what(text: str) -> frozenset[Inhibition]:
    try:
        return frozenset(map(Inhibition, text.split(":")))
    except ValueError as error:
        raise InvalidRequest(
            f"{text[:40]!r} is nothing that can be inhibited.",
            hint=f"Words are {', '.join(Inhibition)}; several with colons between them.",
            parameter="what",
        ) from error


def _parse_mode(text: str) -> InhibitMode:
    try:
        return InhibitMode(text)
    except ValueError as error:
        raise InvalidRequest(
            f"There is no mode {text[:40]!r}.",
            hint=f"Modes are {', '.join(InhibitMode)}.",
            parameter="mode",
        ) from error
