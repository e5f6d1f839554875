"""What may be done, and by whom, as one table.

A caller's uid and groups decide, the same way on every door, except on doors where an authority is
asked (polkit, on D-Bus): there groups count only as far as its rules say, and what it has allowed
stands in the caller's grants. Who is neither in an action's row nor has its grant is denied, so a
surface that forgets to ask refuses.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol

from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.errors import NotPermitted

USER_GROUP = "unified-llm"
ADMIN_GROUP = "unified-llm-admin"


class Action(Enum):
    """Everything that can be asked of the daemon, by the name the audit log uses.

    is_recorded: whether a permitted use is written down too; refusals always are.
    """

    READ = ("read", False)
    GENERATE = ("generate", True)
    EMBED = ("embed", True)
    RERANK = ("rerank", True)
    LOAD_MODEL = ("load-model", True)
    UNLOAD_MODEL = ("unload-model", True)
    SCAN_MODELS = ("scan-models", True)
    IMPORT_MODEL = ("import-model", True)
    REMOVE_MODEL = ("remove-model", True)
    MANAGE_JOBS = ("manage-jobs", True)
    RESERVE_VRAM = ("reserve-vram", True)
    INHIBIT = ("inhibit", True)
    CONFIGURE = ("configure", True)
    RELOAD = ("reload", True)

    def __init__(self, label: str, is_recorded: bool) -> None:
        self.label = label
        self.is_recorded = is_recorded

    @property
    def right(self) -> "Action":
        """What an authority is asked for: whoever may ask a model for text may for vectors."""
        return Action.GENERATE if self in (Action.EMBED, Action.RERANK) else self


class Role(StrEnum):
    """What an identity amounts to here. A caller may have several."""

    ROOT = "root"
    DAEMON = "daemon"
    ADMIN = "admin"
    USER = "user"
    ANYONE = "anyone"


GRANTED_TO: dict[Action, frozenset[Role]] = {
    # Names and states of models are no secret of anybody who could reach a door.
    Action.READ: frozenset({Role.ANYONE}),
    Action.GENERATE: frozenset({Role.ROOT, Role.USER, Role.DAEMON}),
    Action.EMBED: frozenset({Role.ROOT, Role.USER, Role.DAEMON}),
    Action.RERANK: frozenset({Role.ROOT, Role.USER, Role.DAEMON}),
    Action.LOAD_MODEL: frozenset({Role.ROOT, Role.ADMIN}),
    Action.UNLOAD_MODEL: frozenset({Role.ROOT, Role.ADMIN}),
    Action.SCAN_MODELS: frozenset({Role.ROOT, Role.ADMIN}),
    Action.IMPORT_MODEL: frozenset({Role.ROOT, Role.ADMIN}),
    Action.REMOVE_MODEL: frozenset({Role.ROOT, Role.ADMIN}),
    # Somebody else's job; one's own may always be cancelled.
    Action.MANAGE_JOBS: frozenset({Role.ROOT, Role.ADMIN}),
    # Whoever holds one of these can keep everybody from being answered.
    Action.RESERVE_VRAM: frozenset({Role.ROOT, Role.ADMIN}),
    Action.INHIBIT: frozenset({Role.ROOT, Role.ADMIN}),
    # Changes how the daemon runs until it is started or reloaded: how much it logs.
    Action.CONFIGURE: frozenset({Role.ROOT, Role.ADMIN}),
    Action.RELOAD: frozenset({Role.ROOT, Role.ADMIN}),
}

_BY_GROUP = frozenset({Role.ADMIN, Role.USER})
_WHO_MAY = {
    Role.ROOT: "root",
    Role.DAEMON: "the daemon's own user",
    Role.ADMIN: f"group {ADMIN_GROUP}",
    Role.USER: f"group {USER_GROUP}",
    Role.ANYONE: "anyone",
}


class Authority(Protocol):
    """Decides what the table leaves to it."""

    async def ensure_may(
        self, caller: Caller, action: Action, details: dict[str, str], *, may_interact: bool
    ) -> None:
        """Return if `caller` may.

        details: on what, in words that an administrator's rules can look at.
        may_interact: a person may be asked for a password, which takes as long as it takes.
        Raises NotPermitted, AuthenticationRequired, AuthenticationDismissed, RateLimited.
        """


@dataclass(frozen=True, slots=True)
class Permissions:
    """The table bound to this machine.

    daemon_uid: the daemon's own. user_gid, admin_gid: of the two groups; None if there is none.
    authority_doors: doors where groups count only as far as an authority says.
    """

    daemon_uid: int
    user_gid: int | None
    admin_gid: int | None
    authority_doors: frozenset[Door] = frozenset()

    def roles_of(self, caller: Caller) -> frozenset[Role]:
        """The roles of a verified identity; never empty."""
        roles = {Role.ANYONE}
        if caller.uid == 0:
            roles.add(Role.ROOT)
        if caller.uid == self.daemon_uid:
            roles.add(Role.DAEMON)
        if self.user_gid is not None and self.user_gid in caller.gids:
            roles.add(Role.USER)
        if self.admin_gid is not None and self.admin_gid in caller.gids:
            roles.add(Role.ADMIN)
        return frozenset(roles)

    def may(self, caller: Caller, action: Action, target: str) -> bool:
        """Whether the table, or a grant, lets `caller` do `action` on `target`."""
        return bool(self._able(caller, action) & self.roles_of(caller)) or caller.is_granted(
            action.right.label, target
        )

    def ensure_may(self, caller: Caller, action: Action, target: str) -> None:
        """Raise NotPermitted, saying who may, unless `caller` may."""
        if self.may(caller, action, target):
            return
        able = [_WHO_MAY[role] for role in Role if role in self._able(caller, action)]
        if caller.door in self.authority_doors:
            able.append("whoever the authority of this door allows it")
            since = ""
        else:
            since = " Membership counts from the next login."
        raise NotPermitted(
            f"uid {caller.uid} may not {action.label.replace('-', ' ')}.",
            hint=f"Allowed are: {', '.join(able)}.{since}",
        )

    def _able(self, caller: Caller, action: Action) -> frozenset[Role]:
        granted = GRANTED_TO[action]
        return granted - _BY_GROUP if caller.door in self.authority_doors else granted
