"""Floods the daemon with calls that want no reply, as another user, until it is killed.

    DBUS_SYSTEM_BUS_ADDRESS=... python -m tests.bus.flood CONNECTIONS

It sends as fast as the bus takes it, on so many connections in turn, and says a word when it has
begun. The messages are made beforehand, so that making them does not slow it down.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Final

from tests.private_bus import PrivateBus, effective_user
from unified_llm.bus.encoding import NO_REPLY_EXPECTED, encode_call
from unified_llm.bus.handshake import connect
from unified_llm.bus.names import BUS_NAME, DBUS_NAME, DBUS_PATH, MANAGER_INTERFACE, ROOT_PATH

_BATCH: Final = 200


def _call(serial: int, destination: str, path: str, interface: str, member: str) -> bytes:
    values = ("tiny",) if member == "GetModel" else ()
    return encode_call(
        serial,
        destination=destination,
        path=path,
        interface=interface,
        member=member,
        signature="s" * len(values),
        values=values,
        flags=NO_REPLY_EXPECTED,
    ).data


def _batch() -> bytes:
    """Calls of a method that there is, and as many of methods that there are not."""
    members = ["GetModel" if number % 2 else f"Nothing{number}" for number in range(_BATCH)]
    return b"".join(
        _call(number + 2, BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, member)
        for number, member in enumerate(members)
    )


async def _connect(address: str) -> socket.socket:
    with effective_user("nobody"):
        sock = await connect(address)
    sock.setblocking(True)
    sock.sendall(_call(1, DBUS_NAME, DBUS_PATH, DBUS_NAME, "Hello"))
    return sock


def main() -> None:
    address = os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
    batch = _batch()
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(asyncio.run(_connect(address))) for _ in range(int(sys.argv[1]))
        ]
        for sock in sockets:
            sock.sendall(batch)
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        while True:
            for sock in sockets:
                sock.sendall(batch)


@asynccontextmanager
async def open_flood(bus: PrivateBus, connections: int) -> AsyncIterator[None]:
    """Have it run from now on, on `bus`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bus.flood", str(connections)],
        env=bus.environment,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    main()
