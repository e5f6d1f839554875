"""What systemd hears."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unified_llm.host.notify import Notifier


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager


def test_readiness_carries_a_status(systemd: socket.socket) -> None:
    with Notifier(os.environ) as notifier:
        notifier.ready("running")
    assert systemd.recv(4096) == b"READY=1\nSTATUS=running"


def test_a_reload_is_announced_in_one_datagram_with_its_time(systemd: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    with Notifier(os.environ) as notifier:
        notifier.reloading()
    first, second = systemd.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, moment = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(moment) <= time.monotonic_ns() // 1000


def test_a_status_is_sent_once_and_can_not_forge_a_line(systemd: socket.socket) -> None:
    with Notifier(os.environ) as notifier:
        notifier.status("a\nREADY=1")
        notifier.status("a\nREADY=1")
        notifier.stopping("bye")
    assert systemd.recv(4096) == b"STATUS=a READY=1"
    assert systemd.recv(4096) == b"STOPPING=1\nSTATUS=bye"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with Notifier(os.environ) as notifier:
        notifier.ready("running")
        notifier.alive()


def test_a_manager_that_does_not_read_holds_nothing_up(systemd: socket.socket) -> None:
    with Notifier(os.environ) as notifier:
        notifier.ready("running")
        for number in range(10_000):
            notifier.status(f"{number} models")
            notifier.alive()
    assert systemd.recv(4096).startswith(b"READY=1")
