"""The daemon's D-Bus door, from outside: what changes things, so that polkit can ask the person."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, cast

from unified_llm.bus.client import FOREVER, BusClient, open_client
from unified_llm.bus.connection import CALL_SECONDS
from unified_llm.bus.faults import BusFault, parse_fault
from unified_llm.bus.names import JOB_INTERFACE, MANAGER_INTERFACE, ROOT_PATH
from unified_llm.bus.values import Variant, unwrap
from unified_llm.cli.session import DaemonUnreachable
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.units import Seconds

# A person may take two minutes to answer polkit's dialog.
ASKING_SECONDS: Final = Seconds(130)

LOAD: Final = "LoadModel"
UNLOAD: Final = "UnloadModel"
SWITCH: Final = "SwitchModel"
SCAN: Final = "ScanModels"
IMPORT: Final = "ImportModel"
REMOVE: Final = "RemoveModel"

_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Verb:
    """A method of the manager that begins a job: its arguments before the options."""

    member: str
    signature: str = ""
    arguments: tuple[object, ...] = ()
    options: Mapping[str, Variant] = field(default_factory=dict)


def _ignore(fraction: float) -> None:
    pass


def run_verb(
    verb: Verb,
    on_begun: Callable[[int], None],
    on_progress: Callable[[float], None] = _ignore,
    *,
    may_interact: bool,
) -> dict[str, object]:
    """Ask for `verb` and wait until its job ends; its details.

    on_begun: told the job's id. on_progress: told fractions. may_interact: allow polkit to ask for
    a password. Raises UnifiedLlmError, DaemonUnreachable.
    """
    try:
        return asyncio.run(_run_verb(verb, on_begun, on_progress, may_interact))
    except BusFault as error:
        raise DaemonUnreachable(
            f"D-Bus: {error}. Is the daemon running? See `systemctl status unified-llm`."
        ) from error


async def _run_verb(
    verb: Verb,
    on_begun: Callable[[int], None],
    on_progress: Callable[[float], None],
    may_interact: bool,
) -> dict[str, object]:
    async with open_client() as client:
        job, path = await client.call(
            ROOT_PATH,
            MANAGER_INTERFACE,
            verb.member,
            f"{verb.signature}a{{sv}}",
            *verb.arguments,
            dict(verb.options),
            expects="uo",
            timeout=ASKING_SECONDS if may_interact else CALL_SECONDS,
            may_interact=may_interact,
        )
        on_begun(int(str(job)))
        if on_progress is _ignore:
            return await _wait(client, str(path))
        return await _wait_and_look(client, str(path), on_progress)


async def _wait(client: BusClient, path: str) -> dict[str, object]:
    _result, details = await client.call(
        path, JOB_INTERFACE, "Wait", expects="sa{sv}", timeout=FOREVER
    )
    found = cast("dict[str, object]", unwrap(details))
    if "error_name" in found:
        raise parse_fault(BusFault(str(found["error_name"]), str(found["error_message"])))
    return found


async def _wait_and_look(
    client: BusClient, path: str, on_progress: Callable[[float], None]
) -> dict[str, object]:
    ended: UnifiedLlmError | BusFault | None = None
    details: dict[str, object] = {}
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(_look(client, path, on_progress))
        try:
            details = await _wait(client, path)
        except (UnifiedLlmError, BusFault) as error:
            # Raised in here it would come out in a group.
            ended = error
        looking.cancel()
    if ended is not None:
        raise ended
    return details


async def _look(client: BusClient, path: str, on_progress: Callable[[float], None]) -> None:
    with suppress(UnifiedLlmError, BusFault):
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            job = await client.get_properties(path, JOB_INTERFACE)
            if job["ProgressValid"]:
                on_progress(float(str(job["Progress"])))
