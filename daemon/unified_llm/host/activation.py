"""Listening sockets that systemd opened for us (sd_listen_fds(3))."""

import os
import socket
from dataclasses import dataclass

from systemd import daemon


@dataclass(frozen=True, slots=True)
class InheritedSockets:
    """usable: Unix stream sockets that listen. refused: a sentence for each other descriptor."""

    usable: tuple[socket.socket, ...]
    refused: tuple[str, ...]


def adopt_sockets() -> InheritedSockets:
    """Take over what systemd passed, once; the variables are removed from the environment.

    A descriptor that is not a listening AF_UNIX stream socket is closed and reported.
    """
    usable: list[socket.socket] = []
    refused: list[str] = []
    try:
        descriptors: list[int] = daemon.listen_fds(False)
    except OSError as error:
        return InheritedSockets((), (f"LISTEN_FDS in the environment is malformed: {error}",))
    names = [*os.environ.get("LISTEN_FDNAMES", "").split(":"), *("?" for _ in descriptors)]
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(variable, None)
    for descriptor, name in zip(descriptors, names, strict=False):
        os.set_inheritable(descriptor, False)
        defect = _defect(descriptor)
        if defect is None:
            inherited = socket.socket(fileno=descriptor)
            inherited.setblocking(False)
            usable.append(inherited)
        else:
            os.close(descriptor)
            refused.append(f"descriptor {descriptor} ({name}) from systemd {defect}")
    return InheritedSockets(tuple(usable), tuple(refused))


def _defect(descriptor: int) -> str | None:
    if not daemon.is_socket(descriptor, socket.AF_UNIX, socket.SOCK_STREAM, 1):
        return "is not a listening Unix stream socket"
    return None
