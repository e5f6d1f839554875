"""The authority of the D-Bus door: polkit, asked over our own bus connection.

Rules:
1. The subject is the sender's unique name and nothing else. A process id can be somebody else's by
   the time polkit looks (CVE-2013-4288 of polkit, CVE-2025-67859 of TLP).
2. Anything but a clear yes is a no: an error, a timeout, an answer of another shape.
3. A person is asked only if the message allows it, and the question is withdrawn when the caller
   leaves or two minutes are over. Nobody can leave more than a few questions open.
4. Nothing is cached here. polkit has caches of its own, with rules for forgetting.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

from unified_llm.bus import faults
from unified_llm.bus.connection import CALL_SECONDS, BusConnection
from unified_llm.bus.names import BUS_NAME, DBUS_ERROR_PREFIX
from unified_llm.bus.values import Variant
from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import (
    AuthenticationDismissed,
    AuthenticationRequired,
    NotPermitted,
    RateLimited,
    UnifiedLlmError,
)
from unified_llm.domain.units import Seconds
from unified_llm.guard.permissions import Action

_log = logging.getLogger(__name__)

POLKIT_NAME: Final = "org.freedesktop.PolicyKit1"
POLKIT_PATH: Final = "/org/freedesktop/PolicyKit1/Authority"
POLKIT_INTERFACE: Final = "org.freedesktop.PolicyKit1.Authority"

ACTION_IDS: Final[dict[Action, str]] = {
    Action.GENERATE: f"{BUS_NAME}.infer",
    Action.LOAD_MODEL: f"{BUS_NAME}.load-model",
    Action.UNLOAD_MODEL: f"{BUS_NAME}.unload-model",
    Action.SCAN_MODELS: f"{BUS_NAME}.scan-models",
    Action.IMPORT_MODEL: f"{BUS_NAME}.import-model",
    Action.REMOVE_MODEL: f"{BUS_NAME}.remove-model",
    Action.MANAGE_JOBS: f"{BUS_NAME}.manage-jobs",
    Action.RESERVE_VRAM: f"{BUS_NAME}.reserve-vram",
    Action.INHIBIT: f"{BUS_NAME}.inhibit",
    Action.CONFIGURE: f"{BUS_NAME}.configure",
    Action.RELOAD: f"{BUS_NAME}.reload",
}
"""polkit's name for each action that the table does not give to anyone; those of the policy file.

The shipped policy marks them as owned by the daemon's user: without that polkit answers nobody but
root when it asks about others.
"""

INTERACTION_SECONDS: Final = Seconds(120)
MAX_PENDING_PER_USER: Final = 4
MAX_DETAIL_CHARACTERS: Final = 256
_ALLOW_INTERACTION: Final = 1
# The caller has left the bus meanwhile, which says nothing about polkit.
_NO_SUCH_CALLER: Final = f"{DBUS_ERROR_PREFIX}NameHasNoOwner"
_DISMISSED: Final = "polkit.dismissed"


class PolkitAuthority:
    """Asks the polkit daemon on `bus`; it is permissions.Authority.

    interaction_limit: what a person gets to answer the dialog.
    """

    def __init__(
        self, bus: BusConnection, *, interaction_limit: Seconds = INTERACTION_SECONDS
    ) -> None:
        self._bus = bus
        self._interaction_limit = interaction_limit
        self._pending: Counter[int] = Counter()
        self._is_silent = False

    async def ensure_may(
        self, caller: Caller, action: Action, details: dict[str, str], *, may_interact: bool
    ) -> None:
        """As in permissions.Authority."""
        with self._counted(caller.uid):
            answer = await self._ask(caller, action, details, may_interact=may_interact)
        refusal = _refusal(caller, action, answer, may_interact=may_interact)
        if refusal is not None:
            raise refusal

    async def _ask(
        self, caller: Caller, action: Action, details: dict[str, str], *, may_interact: bool
    ) -> tuple[bool, bool, dict[str, str]]:
        question = secrets.token_hex(16)
        try:
            (answer,) = await self._bus.call(
                POLKIT_NAME,
                POLKIT_PATH,
                POLKIT_INTERFACE,
                "CheckAuthorization",
                "(sa{sv})sa{ss}us",
                ("system-bus-name", {"name": Variant("s", caller.connection)}),
                ACTION_IDS[action],
                {key: text[:MAX_DETAIL_CHARACTERS] for key, text in details.items()},
                _ALLOW_INTERACTION if may_interact else 0,
                question,
                expects="(bba{ss})",
                timeout=self._interaction_limit if may_interact else CALL_SECONDS,
                flags=0,  # polkit may not run before somebody asks it
            )
        except asyncio.CancelledError:
            self._withdraw(question)
            raise
        except faults.BusFault as fault:
            if fault.name == faults.NO_REPLY:
                self._withdraw(question)
            if fault.name != _NO_SUCH_CALLER:
                self._note(fault)
            raise NotPermitted(
                f"uid {caller.uid} may not {_words(action)}: polkit does not say that it may.",
                hint="Root may in any case; the log of the daemon says what polkit answered.",
            ) from fault
        self._is_silent = False
        return cast("tuple[bool, bool, dict[str, str]]", tuple(cast("list[object]", answer)))

    def _withdraw(self, question: str) -> None:
        self._bus.begin_call(
            POLKIT_NAME,
            POLKIT_PATH,
            POLKIT_INTERFACE,
            "CancelCheckAuthorization",
            "s",
            question,
        )

    def _note(self, fault: faults.BusFault) -> None:
        # Once: anybody may ask as often as they like while polkit is away.
        if not self._is_silent:
            _log.error("polkit does not decide, so only root may: %s", fault)
        self._is_silent = True

    @contextmanager
    def _counted(self, uid: int) -> Iterator[None]:
        if self._pending[uid] >= MAX_PENDING_PER_USER:
            raise RateLimited(
                f"uid {uid} has {MAX_PENDING_PER_USER} questions open at polkit, which is the "
                "most.",
                hint="Answer or close the dialogs that are open.",
            )
        self._pending[uid] += 1
        try:
            yield
        finally:
            self._pending[uid] -= 1
            if not self._pending[uid]:
                del self._pending[uid]


def _refusal(
    caller: Caller,
    action: Action,
    answer: tuple[bool, bool, dict[str, str]],
    *,
    may_interact: bool,
) -> UnifiedLlmError | None:
    is_authorized, is_challenge, details = answer
    if is_authorized is True:
        return None
    who = f"uid {caller.uid}"
    if _DISMISSED in details:
        return AuthenticationDismissed(f"{who} was asked to authenticate, and nobody did.")
    if is_challenge and not may_interact:
        return AuthenticationRequired(
            f"{who} may {_words(action)} only after authenticating.",
            hint="Allow interaction: busctl does, gdbus call does with --interactive.",
        )
    reason = "and nobody could be asked to authenticate" if is_challenge else "says polkit"
    return NotPermitted(
        f"{who} may not {_words(action)}, {reason}.",
        hint=f"Rules for {ACTION_IDS[action]} are in /etc/polkit-1/rules.d.",
    )


def _words(action: Action) -> str:
    return action.label.replace("-", " ")
