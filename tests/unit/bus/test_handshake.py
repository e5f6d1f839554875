"""Connecting to something that may not be a bus."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from unified_llm.bus import handshake
from unified_llm.bus.faults import DISCONNECTED, BusFault
from unified_llm.bus.handshake import connect, system_bus_address


@asynccontextmanager
async def _open_server(folder: Path, *answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Gives each answer to one line, and closes after the last; right away if there is none."""
    heard: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            heard.append(await reader.readline())
            writer.write(answer)
        writer.close()
        over.set()

    path = folder / "socket"
    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield f"unix:path={path}", heard
        await over.wait()


async def test_a_bus_is_told_who_we_are(tmp_path: Path) -> None:
    uid = str(os.geteuid()).encode().hex().encode()
    async with _open_server(tmp_path, b"OK 0123\r\n", b"AGREE_UNIX_FD\r\n", b"") as (
        address,
        heard,
    ):
        sock = await connect(address)
        sock.close()
    assert b"".join(heard) == (b"\0AUTH EXTERNAL " + uid + b"\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n")


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param((), id="the end at once"),
        pytest.param((b"REJECTED EXTERNAL\r\n",), id="a refusal"),
        pytest.param((b"OK 0123\r\n", b"ERROR\r\n"), id="no descriptors"),
        pytest.param((b"OK 01",), id="the end within a line"),
        pytest.param((b"x" * 5000,), id="an endless line"),
    ],
)
async def test_what_is_no_bus_is_a_fault_and_leaves_nothing(
    tmp_path: Path, answers: tuple[bytes, ...]
) -> None:
    async with _open_server(tmp_path, *answers) as (address, _heard):
        with pytest.raises(BusFault, match="Cannot connect") as caught:
            await connect(address)
    assert caught.value.name == DISCONNECTED


async def test_a_bus_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.01)
    async with _open_server(tmp_path, b"", b"") as (address, _heard):
        with pytest.raises(BusFault, match="no answer"):
            await connect(address)


async def test_the_first_address_that_answers_is_taken(tmp_path: Path) -> None:
    async with _open_server(tmp_path, b"OK 0\r\n", b"AGREE_UNIX_FD\r\n", b"") as (address, _heard):
        sock = await connect(f"unix:path={tmp_path}/none;{address}")
        sock.close()


def test_the_environment_names_the_system_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/x")
    assert system_bus_address() == "unix:path=/x"
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS")
    assert system_bus_address() == "unix:path=/run/dbus/system_bus_socket"
