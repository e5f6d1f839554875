"""The daemon's D-Bus door, from outside: what changes things, so that polkit can ask the person."""

import asyncio
from collections.abc import Callable
from typing import Final

from unified_llm.bus.client import FOREVER, open_client
from unified_llm.bus.connection import CALL_SECONDS
from unified_llm.bus.faults import BusFault
from unified_llm.bus.names import JOB_INTERFACE, MANAGER_INTERFACE, ROOT_PATH
from unified_llm.bus.values import unwrap
from unified_llm.cli.session import DaemonUnreachable
from unified_llm.domain.units import Seconds

LOAD: Final = "LoadModel"
# A person may take two minutes to answer polkit's dialog.
ASKING_SECONDS: Final = Seconds(130)
UNLOAD: Final = "UnloadModel"


def run_verb(
    verb: str, model: str, on_begun: Callable[[int], None], *, may_interact: bool
) -> dict[str, object]:
    """Ask for `verb` on `model` and wait until its job ends; its details.

    on_begun: told the job's id. may_interact: allow polkit to ask for a password.
    Raises UnifiedLlmError, DaemonUnreachable.
    """
    try:
        return asyncio.run(_run_verb(verb, model, on_begun, may_interact))
    except BusFault as error:
        raise DaemonUnreachable(
            f"D-Bus: {error}. Is the daemon running? See `systemctl status unified-llm`."
        ) from error


async def _run_verb(
    verb: str, model: str, on_begun: Callable[[int], None], may_interact: bool
) -> dict[str, object]:
    async with open_client() as client:
        job, path = await client.call(
            ROOT_PATH,
            MANAGER_INTERFACE,
            verb,
            "sa{sv}",
            model,
            {},
            expects="uo",
            timeout=ASKING_SECONDS if may_interact else CALL_SECONDS,
            may_interact=may_interact,
        )
        on_begun(int(str(job)))
        # A failed job answers Wait with its error, which `call` raises as the error it was.
        _result, details = await client.call(
            str(path), JOB_INTERFACE, "Wait", expects="sa{sv}", timeout=FOREVER
        )
    found = unwrap(details)
    return dict(found) if isinstance(found, dict) else {}
