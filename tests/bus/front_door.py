"""Our door on a private bus, and clients of it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

from tests.fakes.authority import FakeAuthority
from tests.fakes.backend import FakeBackend
from tests.fakes.house import House, open_house
from tests.private_bus import PrivateBus, as_whom
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.names import BUS_NAME, MANAGER_INTERFACE, ROOT_PATH
from unified_llm.guard.permissions import Action, Authority
from unified_llm.guard.polkit import PolkitAuthority
from unified_llm.operations.http_access import HttpAccess, ServesConnections
from unified_llm.routing.budget import Limit
from unified_llm.surfaces.dbus.door import DbusDoor

SOCKET = PurePath("/run/unified-llm/api.sock")


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """The door with what is behind it, and the bus it opens on."""

    house: House
    door: DbusDoor
    bus: PrivateBus

    async def run(
        self,
        *command: str,
        user: str = "root",
        group: int | None = None,
        job: str = "",
        lease: str = "",
    ) -> "subprocess.CompletedProcess[str]":
        """Run a client as `user`, who is in `group` besides; `$JOB` is `job`, `$LEASE`
        is `lease`."""
        as_user = as_whom(user) | ({} if group is None else {"extra_groups": (group,)})
        run = partial(
            subprocess.run,
            command,
            env=self.bus.environment | {"JOB": job, "LEASE": lease},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
            **as_user,
        )
        return await asyncio.to_thread(run)

    async def busctl(
        self, member: str, *arguments: str, user: str = "root", group: int | None = None
    ) -> str:
        """What busctl prints for a method of the manager, errors included."""
        found = await self.run(
            "busctl",
            "call",
            BUS_NAME,
            ROOT_PATH,
            MANAGER_INTERFACE,
            member,
            *arguments,
            user=user,
            group=group,
        )
        return (found.stdout + found.stderr).strip()


@asynccontextmanager
async def open_front_door(
    bus: PrivateBus,
    *,
    backend: FakeBackend | None = None,
    obedient: bool = True,
    with_polkit: bool = False,
    http: ServesConnections | None = None,
    allowed: set[Action] | None = None,
    limits: Sequence[Limit] = (),
) -> AsyncIterator[FrontDoor]:
    """The door as the daemon opens it: everything exported first, then the name.

    with_polkit: whoever is polkit on `bus` decides. allowed: an authority that allows these
    decides. With neither, groups do. http: what serves connections; None for a fake.
    """
    async with (
        open_connection(bus.address) as connection,
        open_house(
            backend=backend,
            obedient=obedient,
            authority=_authority(connection, allowed, with_polkit=with_polkit),
            limits=limits,
        ) as house,
        DbusDoor(
            connection,
            models=house.models,
            library=house.library,
            inference=house.inference,
            jobs=house.jobs,
            status=house.status,
            watch=house.watch,
            admission=house.admission,
            leases=house.leases,
            inhibitors=house.inhibitors,
            administration=house.administration,
            devices=house.devices,
            routes=house.routes,
            spending=house.spending,
            log=house.log,
            http=house.http if http is None else HttpAccess(house.gate, http),
            version="1.2.3",
            http_socket_path=SOCKET,
        ) as door,
    ):
        await connection.request_name(BUS_NAME)
        yield FrontDoor(house, door, bus)


def _authority(
    connection: BusConnection, allowed: set[Action] | None, *, with_polkit: bool
) -> Authority | None:
    if with_polkit:
        return PolkitAuthority(connection)
    return None if allowed is None else FakeAuthority(allowed)


async def ask(
    client: BusConnection, member: str, signature: str, *values: object
) -> tuple[object, ...]:
    """Call a method of the manager."""
    return await client.call(BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, member, signature, *values)
