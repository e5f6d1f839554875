"""Identity from the kernel."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from unified_llm.domain.callers import Door
from unified_llm.guard.peers import find_group, read_caller


def test_the_kernel_says_who_connected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        caller = read_caller(ours, "http 1")
    assert caller.uid == os.getuid()
    assert caller.pid == os.getpid()
    assert caller.gids == {os.getgid(), *os.getgroups()}
    assert caller.door is Door.HTTP
    assert caller.principal == f"uid:{os.getuid()}"


def test_an_unknown_group_is_none() -> None:
    assert find_group("no-such-group-here") is None


def test_the_root_group_is_found() -> None:
    assert find_group("root") == 0


@pytest.mark.system
def test_a_peer_in_hundreds_of_groups_is_known_in_all_of_them(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    groups = list(range(5000, 5400))
    program = (
        "import os, socket, sys\n"
        f"os.setgroups({groups}); os.setgid(5001)\n"
        f"s = socket.socket(socket.AF_UNIX); s.connect({path!r}); sys.stdin.read()"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as client:
            with listener.accept()[0] as peer:
                caller = read_caller(peer, "http 1")
            client.communicate()
    assert caller.gids == {*groups}
