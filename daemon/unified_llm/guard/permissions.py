"""What may be done, and by whom, as one table.

Until polkit decides (it comes with the whole D-Bus interface), a caller's uid and groups do, the
same way on both doors. Who is not named in an action's row is denied.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import NotPermitted

USER_GROUP = "unified-llm"
ADMIN_GROUP = "unified-llm-admin"


class Action(Enum):
    """Everything that can be asked of the daemon, by the name the audit log uses.

    is_recorded: whether a permitted use is written down too; refusals always are.
    """

    READ = ("read", False)
    GENERATE = ("generate", True)
    LOAD_MODEL = ("load-model", True)
    UNLOAD_MODEL = ("unload-model", True)
    MANAGE_JOBS = ("manage-jobs", True)

    def __init__(self, label: str, is_recorded: bool) -> None:
        self.label = label
        self.is_recorded = is_recorded


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
    Action.LOAD_MODEL: frozenset({Role.ROOT, Role.ADMIN}),
    Action.UNLOAD_MODEL: frozenset({Role.ROOT, Role.ADMIN}),
    # Somebody else's job; one's own may always be cancelled.
    Action.MANAGE_JOBS: frozenset({Role.ROOT, Role.ADMIN}),
}

_WHO_MAY = {
    Role.ROOT: "root",
    Role.DAEMON: "the daemon's own user",
    Role.ADMIN: f"group {ADMIN_GROUP}",
    Role.USER: f"group {USER_GROUP}",
    Role.ANYONE: "anyone",
}


@dataclass(frozen=True, slots=True)
class Permissions:
    """The table bound to this machine.

    daemon_uid: the daemon's own. user_gid, admin_gid: of the two groups; None if there is none.
    """

    daemon_uid: int
    user_gid: int | None
    admin_gid: int | None

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

    def may(self, caller: Caller, action: Action) -> bool:
        """Whether the table grants `action` to `caller`."""
        return bool(GRANTED_TO[action] & self.roles_of(caller))

    def ensure_may(self, caller: Caller, action: Action) -> None:
        """Raise NotPermitted, saying who may, unless `caller` may."""
        if self.may(caller, action):
            return
        able = ", ".join(_WHO_MAY[role] for role in Role if role in GRANTED_TO[action])
        raise NotPermitted(
            f"uid {caller.uid} may not {action.label.replace('-', ' ')}.",
            hint=f"Allowed are: {able}. Membership counts from the next login.",
        )
