"""From a bus address to a socket that has said who we are."""

import asyncio
import os
import socket
from typing import Final

from dbus_next._private.address import parse_address
from dbus_next.errors import InvalidAddressError

from unified_llm.bus.faults import DISCONNECTED, BusFault

SYSTEM_BUS_ADDRESS: Final = "unix:path=/run/dbus/system_bus_socket"
HANDSHAKE_SECONDS: Final = 10.0
_MAX_LINE_BYTES: Final = 4096
_RETRY_SECONDS: Final = 0.02


def system_bus_address() -> str:
    """The address of the system bus, as the environment has it, or the standard one."""
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", SYSTEM_BUS_ADDRESS)


def session_bus_address() -> str:
    """The address of this login's session bus. Raises BusFault if the environment has none."""
    found = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    if not found and (folder := os.environ.get("XDG_RUNTIME_DIR")):
        found = f"unix:path={folder}/bus"
    if not found:
        raise BusFault(
            DISCONNECTED,
            "Neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set: there is no session bus.",
        )
    return found


async def connect(address: str) -> socket.socket:
    """A connected, authenticated, non-blocking socket. Raises BusFault."""
    reasons = []
    for target in _targets(address):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await _connect(sock, target)
                await _authenticate(sock)
        except (OSError, EOFError) as exc:
            sock.close()
            reasons.append(str(exc) or f"no answer in {HANDSHAKE_SECONDS:.0f} s")
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise BusFault(DISCONNECTED, f"Cannot connect to the bus at {address}: {'; '.join(reasons)}.")


def _targets(address: str) -> list[str]:
    try:
        parsed = parse_address(address)  # type: ignore[no-untyped-call]
    except InvalidAddressError as exc:
        raise BusFault(DISCONNECTED, f"{address!r} is not a bus address: {exc}.") from exc
    targets = []
    for transport, options in parsed:
        if transport == "unix" and "path" in options:
            targets.append(options["path"])
        elif transport == "unix" and "abstract" in options:
            targets.append(f"\0{options['abstract']}")
    if not targets:
        raise BusFault(DISCONNECTED, f"{address!r} names no Unix socket.")
    return targets


async def _connect(sock: socket.socket, target: str) -> None:
    while True:
        try:
            sock.connect(target)
        except BlockingIOError:
            # The queue of the listener is full; a Unix socket cannot tell when that ends.
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


async def _authenticate(sock: socket.socket) -> None:
    """SASL EXTERNAL of the D-Bus specification: the kernel says who we are, we only agree."""
    uid = str(os.geteuid()).encode().hex()
    await _say(sock, f"\0AUTH EXTERNAL {uid}")
    await _expect(sock, "OK")
    await _say(sock, "NEGOTIATE_UNIX_FD")
    await _expect(sock, "AGREE_UNIX_FD")
    await _say(sock, "BEGIN")


async def _say(sock: socket.socket, line: str) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, f"{line}\r\n".encode())


async def _expect(sock: socket.socket, word: str) -> None:
    line = await _read_line(sock)
    if line.split(" ")[0] != word:
        raise ConnectionError(f"the bus answered {line[:80]!r} instead of {word}")


async def _read_line(sock: socket.socket) -> str:
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\r\n"):
        # One byte at a time: what follows the last line belongs to the message stream.
        byte = await loop.sock_recv(sock, 1)
        if not byte:
            raise EOFError("the bus closed the connection during authentication")
        line += byte
        if len(line) > _MAX_LINE_BYTES:
            raise ConnectionError("the bus sent an endless line during authentication")
    return line[:-2].decode("ascii", "replace")
