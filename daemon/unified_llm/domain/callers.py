"""Who is asking, as the kernel or the bus says, never as the caller says."""

from dataclasses import dataclass
from enum import StrEnum


class Door(StrEnum):
    """The way a request came in."""

    DBUS = "dbus"
    HTTP = "http"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified identity.

    uid, gids: credentials of the peer when it connected.
    pid: decoration for the audit log only; it may be somebody else's by now. None if unknown.
    connection: what the request came through: a unique bus name, or an HTTP connection number;
        things the caller holds end when it does.
    """

    uid: int
    gids: frozenset[int]
    pid: int | None
    door: Door
    connection: str

    @property
    def principal(self) -> str:
        """The name under which limits, fairness and caches are kept."""
        return f"uid:{self.uid}"
