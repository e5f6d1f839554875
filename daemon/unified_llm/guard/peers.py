"""The identity of a Unix socket's peer, from the kernel."""

import ctypes
import errno
import grp
import os
import pwd
import socket
import struct

from unified_llm.domain.callers import Caller, Door

# SO_PEERGROUPS of linux/socket.h; Python's socket module does not name it.
_SO_PEERGROUPS = 59
_UCRED = struct.Struct("3i")
_GID_BYTES = 4
_MAX_GROUPS = 65_536  # NGROUPS_MAX of limits.h
_PYTHON_BUFFER_LIMIT = 1024  # socket.getsockopt refuses more


def read_caller(peer: socket.socket, connection: str) -> Caller:
    """Who connected `peer`, an AF_UNIX stream socket.

    The kernel took these at connect(2): a descriptor passed on later still shows the uid that
    connected. Raises OSError when the kernel does not say, and then nobody is let in.
    """
    pid, uid, gid = _UCRED.unpack(
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    raw = _peer_groups(peer)
    groups = struct.unpack(f"{len(raw) // _GID_BYTES}I", raw)
    return Caller(
        uid=uid,
        gids=frozenset({gid, *groups}),
        pid=pid or None,
        door=Door.HTTP,
        connection=connection,
    )


def _peer_groups(peer: socket.socket) -> bytes:
    try:
        return peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _PYTHON_BUFFER_LIMIT)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
    # More than 256 groups, as directory services give: past what Python's own call can carry.
    size = ctypes.c_uint32(_MAX_GROUPS * _GID_BYTES)
    buffer = ctypes.create_string_buffer(size.value)
    libc = ctypes.CDLL(None, use_errno=True)
    level, option = socket.SOL_SOCKET, _SO_PEERGROUPS
    if libc.getsockopt(peer.fileno(), level, option, buffer, ctypes.byref(size)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return buffer.raw[: size.value]


def find_group(name: str) -> int | None:
    """The gid of group `name`; None if this machine has no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def find_gids(uid: int) -> frozenset[int]:
    """The groups that user `uid` has when it logs in; none if this machine has no such user."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
