"""The identity of a Unix socket's peer, from the kernel."""

import grp
import socket
import struct

from unified_llm.domain.callers import Caller, Door

# SO_PEERGROUPS of linux/socket.h; Python's socket module does not name it.
_SO_PEERGROUPS = 59
_UCRED = struct.Struct("3i")
_GID_BYTES = 4
_MAX_GROUPS = 65_536  # NGROUPS_MAX of limits.h


def read_caller(peer: socket.socket, connection: str) -> Caller:
    """Who connected `peer`, an AF_UNIX stream socket.

    The kernel took these at connect(2): a descriptor passed on later still shows the uid that
    connected. Raises OSError when the kernel does not say, and then nobody is let in.
    """
    pid, uid, gid = _UCRED.unpack(
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS * _GID_BYTES)
    groups = struct.unpack(f"{len(raw) // _GID_BYTES}I", raw)
    return Caller(
        uid=uid,
        gids=frozenset({gid, *groups}),
        pid=pid or None,
        door=Door.HTTP,
        connection=connection,
    )


def find_group(name: str) -> int | None:
    """The gid of group `name`; None if this machine has no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
