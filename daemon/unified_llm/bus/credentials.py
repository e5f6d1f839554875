"""Who a bus name is, as the bus asked the kernel when it connected."""

import asyncio
import pwd
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from unified_llm.bus import faults
from unified_llm.bus.connection import BusConnection
from unified_llm.bus.values import unwrap
from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.errors import NotPermitted


@dataclass(slots=True)
class _Entry:
    caller: Caller | None = None
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Credentials:
    """Looks callers up once per connection, and forgets those that have left.

    Unique names are never used twice, so what is remembered cannot become somebody else's.
    """

    def __init__(self, bus: BusConnection) -> None:
        self._bus = bus
        self._entries: dict[str, _Entry] = {}
        bus.on_name_vanished(self._on_name_vanished)

    def known(self, unique_name: str) -> Caller | None:
        """Who has been looked up and is still there."""
        entry = self._entries.get(unique_name)
        return None if entry is None else entry.caller

    @property
    def all_known(self) -> tuple[Caller, ...]:
        """Everybody who has been looked up and is still there."""
        found = (entry.caller for entry in self._entries.values())
        return tuple(caller for caller in found if caller is not None)

    async def caller_of(self, unique_name: str) -> Caller:
        """The verified identity behind a unique name. Raises NotPermitted if it is not known."""
        entry = self._entries.get(unique_name)
        if entry is None:
            entry = self._entries[unique_name] = _Entry()
        async with entry.asking:
            if entry.caller is None:
                try:
                    entry.caller = await self._ask(unique_name)
                except BaseException:
                    self._entries.pop(unique_name, None)
                    raise
            return entry.caller

    async def _ask(self, unique_name: str) -> Caller:
        try:
            (answer,) = await self._bus.call_bus(
                "GetConnectionCredentials", "s", unique_name, expects="a{sv}"
            )
        except faults.BusFault as exc:
            raise NotPermitted(
                f"The bus does not say who {unique_name} is: {exc.text}",
                hint="Connect again and retry.",
            ) from exc
        return parse_credentials(unique_name, cast("dict[str, object]", unwrap(answer)))

    def _on_name_vanished(self, name: str) -> None:
        self._entries.pop(name, None)


def parse_credentials(unique_name: str, answer: dict[str, object]) -> Caller:
    """The caller in a reply of GetConnectionCredentials. Raises NotPermitted without a uid."""
    uid = answer.get("UnixUserID")
    if not isinstance(uid, int):
        raise NotPermitted(f"The bus does not know the user behind {unique_name}.")
    pid = answer.get("ProcessID")
    gids = answer.get("UnixGroupIDs")
    return Caller(
        uid=uid,
        gids=frozenset(cast("Iterable[int]", gids)) if gids is not None else _primary_group(uid),
        pid=pid if isinstance(pid, int) else None,
        door=Door.DBUS,
        connection=unique_name,
    )


def _primary_group(uid: int) -> frozenset[int]:
    """For a bus that does not tell groups: the one that the user certainly has."""
    try:
        return frozenset({pwd.getpwuid(uid).pw_gid})
    except KeyError:
        return frozenset()
