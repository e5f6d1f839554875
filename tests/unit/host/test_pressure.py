"""Shortage of memory is told by the kernel, or it is told why not."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from unified_llm.domain.units import Seconds
from unified_llm.host import pressure
from unified_llm.host.pressure import open_pressure_watch, pressure_files

MACHINE = Path("/proc/pressure/memory")


def nothing() -> None:
    raise AssertionError("there is no pressure here")


async def test_a_kernel_without_it_is_told_and_nothing_is_watched(tmp_path: Path) -> None:
    with open_pressure_watch([tmp_path / "memory"], 10, nothing) as unwatched:
        assert unwatched is not None
        assert "No such file" in unwatched


async def test_a_kernel_that_refuses_the_threshold_is_told(tmp_path: Path) -> None:
    with open_pressure_watch([Path("/dev/full")], 10, nothing) as unwatched:
        assert unwatched is not None
        assert "No space left" in unwatched


async def test_the_next_file_does_where_the_first_does_not(tmp_path: Path) -> None:
    other = tmp_path / "memory.pressure"
    other.touch()
    with open_pressure_watch([tmp_path / "none", other], 15, nothing) as unwatched:
        assert unwatched is None
        assert other.read_text() == "some 300000 2000000\0"


@pytest.mark.system
async def test_the_real_kernel_takes_our_threshold() -> None:
    with open_pressure_watch([MACHINE], 100, nothing) as unwatched:
        assert unwatched is None


async def test_the_kernels_word_is_passed_on_and_the_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Urgent data on a socket is what makes poll(2) tell the same event."""
    told = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
        with sender, receiver:
            monkeypatch.setattr(
                pressure, "_open_trigger", lambda files, percent: os.dup(receiver.fileno())
            )
            with open_pressure_watch([], 10, told.set, window=Seconds(3600)) as unwatched:
                assert unwatched is None
                assert not told.is_set()
                sender.send(b"!", socket.MSG_OOB)
                async with asyncio.timeout(60):
                    await told.wait()


def test_a_service_that_is_not_allowed_the_machines_watches_its_own_group() -> None:
    own = "/sys/fs/cgroup/system.slice/unified-llm.service/memory.pressure"
    assert pressure_files({"MEMORY_PRESSURE_WATCH": own}) == (MACHINE, Path(own))
    assert pressure_files({"MEMORY_PRESSURE_WATCH": "/dev/null"}) == (MACHINE,)
    assert pressure_files({}) == (MACHINE,)
