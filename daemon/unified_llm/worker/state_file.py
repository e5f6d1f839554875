"""How a kept state is written: a head, the tokens, and what the model itself gives of its memory.

It is written by one worker and read by a later one of the same model file, build and context, in a
memfd that is sealed before anybody else gets it. What does not look right is not used: everything
can be computed again. The check sum finds accidents; against a worker that lies there is nothing to
gain, as it would lie to workers of its own model file only.
"""

import fcntl
import mmap
import os
import struct
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from unified_llm.worker.protocol import ProtocolError
from unified_llm.worker.state_channel import SEALS, sealed_size

# Magic and version, number of tokens, check sum of tokens and adapter, size and sum of the state,
# then the adapter's name, which has at most 64 characters of ASCII (domain.models).
_HEAD: Final = struct.Struct("<8sIIQI4x64s")
_MAGIC: Final = b"ullmkv\0\2"
_MFD_NOEXEC_SEAL: Final = 0x8  # since Linux 6.3; linux/memfd.h


class StateFileError(Exception):
    """There is no state to be had from this descriptor."""


@dataclass(frozen=True, slots=True)
class StateFile:
    """A state that may be restored. offset, size: where what the model gave is.

    adapter: what it was computed with.
    """

    tokens: list[int]
    offset: int
    size: int
    checksum: int
    adapter: str | None


def file_bytes(tokens: int, state_bytes: int) -> int:
    """What a state takes."""
    return _HEAD.size + 4 * tokens + state_bytes


def write_state(
    tokens: Sequence[int],
    state_bytes: int,
    save: Callable[[memoryview], bool],
    adapter: str | None = None,
) -> int | None:
    """A sealed descriptor with the state; None if `save` fails. Raises OSError.

    save: fills the whole of the room it is given.
    """
    descriptor = _open_memory()
    try:
        size = file_bytes(len(tokens), state_bytes)
        os.ftruncate(descriptor, size)
        with mmap.mmap(descriptor, size) as memory:
            words = array("i", tokens).tobytes()
            is_saved = _fill(memory, words, state_bytes, save, adapter)
        if is_saved:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def read_state(descriptor: int, most_tokens: int) -> StateFile:
    """What is in a sealed descriptor. Raises StateFileError."""
    try:
        whole = sealed_size(descriptor)
        head = os.pread(descriptor, _HEAD.size, 0)
        magic, count, words_sum, size, checksum, name = _HEAD.unpack(head)
        if magic != _MAGIC or count > most_tokens or file_bytes(count, size) != whole:
            raise StateFileError(f"{whole} bytes are not a state of at most {most_tokens} tokens")
        words = os.pread(descriptor, 4 * count, _HEAD.size)
        adapter = name.rstrip(b"\0").decode("ascii") or None
    except (OSError, struct.error, UnicodeDecodeError, ProtocolError) as error:
        raise StateFileError(str(error)) from error
    if zlib.crc32(name, zlib.crc32(words)) != words_sum:
        raise StateFileError("the tokens or the adapter have changed")
    return StateFile(array("i", words).tolist(), _HEAD.size + 4 * count, size, checksum, adapter)


def restore_state(descriptor: int, file: StateFile, restore: Callable[[memoryview], bool]) -> bool:
    """Give the state to `restore`; whether it took it. Raises StateFileError, OSError."""
    # Private: what is sealed against writing cannot be mapped as shared before Linux 6.7.
    with (
        mmap.mmap(descriptor, file.offset + file.size, flags=mmap.MAP_PRIVATE) as memory,
        memoryview(memory) as view,
        view[file.offset :] as state,
    ):
        if zlib.crc32(state) != file.checksum:
            raise StateFileError("the state has changed")
        return restore(state)


def _fill(
    memory: mmap.mmap,
    words: bytes,
    state_bytes: int,
    save: Callable[[memoryview], bool],
    adapter: str | None,
) -> bool:
    offset = _HEAD.size + len(words)
    memory[_HEAD.size : offset] = words
    with memoryview(memory) as view, view[offset:] as room:
        is_saved = save(room)
        checksum = zlib.crc32(room)
    count, name = len(words) // 4, (adapter or "").encode().ljust(64, b"\0")
    words_sum = zlib.crc32(name, zlib.crc32(words))
    memory[: _HEAD.size] = _HEAD.pack(_MAGIC, count, words_sum, state_bytes, checksum, name)
    return is_saved


def _open_memory() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("state", flags | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create("state", flags)
