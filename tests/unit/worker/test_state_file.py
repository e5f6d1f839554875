"""A state in sealed memory: what was written is read, and anything else is refused."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.models import ADAPTER_NAME_PATTERN
from unified_llm.worker.state_channel import SEALS
from unified_llm.worker.state_file import (
    StateFileError,
    file_bytes,
    read_state,
    restore_state,
    write_state,
)

_MOST = 100


@contextmanager
def written(tokens: list[int], state: bytes, adapter: str | None = None) -> Iterator[int]:
    def save(room: memoryview) -> bool:
        room[:] = state
        return True

    descriptor = write_state(tokens, len(state), save, adapter)
    assert descriptor is not None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def sealed(content: bytes, seals: int = SEALS) -> Iterator[int]:
    """What a worker that lies could send."""
    descriptor = os.memfd_create("lie", os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor
    finally:
        os.close(descriptor)


def content_of(descriptor: int) -> bytes:
    return os.pread(descriptor, 1 << 20, 0)


def restored(descriptor: int) -> bytes:
    """What a model would be given."""
    found = b""

    def restore(state: memoryview) -> bool:
        nonlocal found
        found = bytes(state)
        return True

    assert restore_state(descriptor, read_state(descriptor, _MOST), restore)
    return found


@given(
    st.lists(st.integers(0, 2**31 - 1), max_size=_MOST),
    st.binary(max_size=200),
    st.none() | st.from_regex(ADAPTER_NAME_PATTERN, fullmatch=True),
)
def test_what_was_written_is_read(tokens: list[int], state: bytes, adapter: str | None) -> None:
    with written(tokens, state, adapter) as descriptor:
        found = read_state(descriptor, _MOST)
        assert (found.tokens, found.adapter) == (tokens, adapter)
        assert restored(descriptor) == state
        assert os.fstat(descriptor).st_size == file_bytes(len(tokens), len(state))


def test_what_was_written_can_change_no_more() -> None:
    with written([1, 2], b"state") as descriptor:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)


@pytest.mark.keeps_descriptors
@given(data=st.data())
def test_one_changed_byte_is_found_before_the_model_sees_it(data: st.DataObject) -> None:
    with written([5, 6, 7], b"what the model remembers", "law") as good:
        content = bytearray(content_of(good))
    place = data.draw(st.integers(0, len(content) - 1).filter(lambda each: not 28 <= each < 32))
    content[place] ^= data.draw(st.integers(1, 255))
    with sealed(bytes(content)) as descriptor, pytest.raises(StateFileError):
        restored(descriptor)


@given(content=st.binary(max_size=100))
def test_anything_else_is_refused(content: bytes) -> None:
    with sealed(content) as descriptor, pytest.raises(StateFileError):
        read_state(descriptor, _MOST)


def test_more_tokens_than_a_context_has_are_refused() -> None:
    with written([1] * 5, b"") as descriptor:
        with pytest.raises(StateFileError, match="at most 4 tokens"):
            read_state(descriptor, 4)
        assert len(read_state(descriptor, 5).tokens) == 5


def test_what_is_not_sealed_is_not_read() -> None:
    with written([1], b"s") as good:
        content = content_of(good)
    lax = SEALS & ~fcntl.F_SEAL_WRITE
    with sealed(content, lax) as descriptor, pytest.raises(StateFileError, match="sealed"):
        read_state(descriptor, _MOST)
    reading, writing = os.pipe()
    try:
        with pytest.raises(StateFileError, match="cannot be sealed"):
            read_state(reading, _MOST)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_model_that_fails_to_save_leaves_nothing_behind() -> None:
    assert write_state([1], 10, lambda room: False) is None

    def fail(room: memoryview) -> bool:
        raise OSError("no memory")

    with pytest.raises(OSError, match="no memory"):
        write_state([1], 10, fail)
