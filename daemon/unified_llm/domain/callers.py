"""Who is asking, as the kernel or the bus says, never as the caller says."""

from dataclasses import dataclass
from enum import StrEnum


class Door(StrEnum):
    """The way a request came in."""

    DBUS = "dbus"
    HTTP = "http"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Grant:
    """The leave that an authority beyond our own table has given.

    action: what for, by the name of the audit log. target: on what; None for anything.
    """

    action: str
    target: str | None


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified identity.

    uid, gids: credentials of the peer when it connected.
    pid: decoration for the audit log only; it may be somebody else's by now. None if unknown.
    connection: what the request came through: a unique bus name, or an HTTP connection number;
        things the caller holds end when it does.
    grants: what an authority has allowed this caller, so that what was asked is what is done.
    """

    uid: int
    gids: frozenset[int]
    pid: int | None
    door: Door
    connection: str
    grants: frozenset[Grant] = frozenset()

    def is_granted(self, action: str, target: str) -> bool:
        """Whether an authority has allowed `action` on `target`."""
        return not self.grants.isdisjoint((Grant(action, target), Grant(action, None)))

    @property
    def principal(self) -> str:
        """The name under which limits, fairness and caches are kept."""
        return f"uid:{self.uid}"
