"""What daemon and worker say of kept states: one datagram each, on a socket of its own.

A kept state is what a model remembers of one conversation, in a memfd that the worker has filled,
sealed and let go of. The bytes pass by descriptor and nobody but workers of the same model file
reads them: the daemon looks at the seals and the size, which can change no more, and at nothing
inside. Order: the daemon sends Kept for each state of a principal before the first Generate of that
principal on the other socket; the worker sends Keep and Restored when it likes.
"""

import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from unified_llm.worker.protocol import ProtocolError

MAX_PRINCIPAL_CHARACTERS: Final = 1024
SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
"""What every kept state bears: it stays as large and as it is."""

_MAX_BYTES: Final = 8192
_RIGHTS: Final = struct.Struct("i")  # of SCM_RIGHTS: one descriptor
_StateId = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_Principal = Annotated[str, msgspec.Meta(max_length=MAX_PRINCIPAL_CHARACTERS)]


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Keep(_Struct, frozen=True, tag="keep"):
    """Keep the state in the descriptor that comes along. state: drawn by the worker."""

    state: _StateId
    principal: _Principal


class Restored(_Struct, frozen=True, tag="restored"):
    """A state is of use. is_spent: it lives on in the worker, and need not be kept."""

    state: _StateId
    is_spent: bool


class Kept(_Struct, frozen=True, tag="kept"):
    """A state of this principal, in the descriptor that comes along."""

    state: _StateId
    principal: _Principal


FromWorker = Keep | Restored

_encoder = msgspec.msgpack.Encoder()
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_kept = msgspec.msgpack.Decoder(Kept)
_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A datagram. descriptor: belongs to whoever received it."""

    body: bytes
    descriptor: int | None

    def drop(self) -> None:
        """Close what came along."""
        if self.descriptor is not None:
            os.close(self.descriptor)


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of the socket. Raises OSError."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(connection: socket.socket, message: FromWorker | Kept, descriptor: int | None) -> bool:
    """Send at once; False if nobody takes it: then the state is just not kept, or not restored."""
    passed = [] if descriptor is None else [_RIGHTS.pack(descriptor)]
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, each) for each in passed]
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    try:
        connection.sendmsg([_encoder.encode(message)], ancillary, flags)
    except OSError:
        return False
    return True


def receive(connection: socket.socket) -> Parcel | None:
    """What has come; None if there is nothing now. Raises EOFError at the end."""
    # Not socket.recv_fds: it forgets the flags it is given.
    room, flags = socket.CMSG_LEN(_RIGHTS.size), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    try:
        body, ancillary, _, _ = connection.recvmsg(_MAX_BYTES, room, flags)
    except BlockingIOError:
        return None
    except OSError as error:
        raise EOFError from error
    # There is room for one; what came beyond that has been closed by the kernel.
    parcel = Parcel(body, _RIGHTS.unpack(ancillary[0][2])[0] if ancillary else None)
    if not body:
        parcel.drop()
        raise EOFError
    return parcel


def decode_from_worker(parcel: Parcel) -> FromWorker:
    """What the worker says. Raises ProtocolError."""
    try:
        return _from_worker.decode(parcel.body)
    except _UNREADABLE as error:
        raise ProtocolError(f"unreadable datagram: {error}") from error


def decode_kept(parcel: Parcel) -> Kept:
    """What the daemon says. Raises ProtocolError."""
    try:
        return _kept.decode(parcel.body)
    except _UNREADABLE as error:
        raise ProtocolError(f"unreadable datagram: {error}") from error


def sealed_size(descriptor: int) -> int:
    """Bytes of a state that can change no more. Raises ProtocolError if it is nothing like that."""
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise ProtocolError("the descriptor cannot be sealed") from error
    if seals & SEALS != SEALS:
        raise ProtocolError(f"the state is sealed by {seals:#x} only")
    return os.fstat(descriptor).st_size
