"""Sockets handed over by systemd, in a child because they start at descriptor 3."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

_CHILD = """
import json, os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from unified_llm.host.activation import adopt_sockets
adopted = adopt_sockets()
print(json.dumps({
    "usable": [s.getsockname() for s in adopted.usable],
    "inheritable": [s.get_inheritable() for s in adopted.usable],
    "blocking": [s.getblocking() for s in adopted.usable],
    "refused": adopted.refused,
    "left": [name for name in os.environ if name.startswith("LISTEN_")],
}))
"""


def adopt_in_child(*sockets: socket.socket) -> dict[str, object]:
    """What a child makes of `sockets`, passed as descriptors 3, 4, … by a shell."""
    redirections = " ".join(f"{3 + index}<&{s.fileno()}" for index, s in enumerate(sockets))
    environment = {
        **os.environ,
        "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": ":".join(f"name{index}" for index in range(len(sockets))),
    }
    done = subprocess.run(
        ["/bin/bash", "-c", f'exec "$0" "$@" {redirections}', sys.executable, "-c", _CHILD],
        pass_fds=[s.fileno() for s in sockets],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_listening_unix_socket_is_adopted_and_others_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "api.sock")
    with (
        socket.socket(socket.AF_UNIX) as listening,
        socket.socket(socket.AF_UNIX) as idle,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
    ):
        listening.bind(path)
        listening.listen()
        answer = adopt_in_child(listening, idle, datagram)
    assert answer["usable"] == [path]
    assert answer["inheritable"] == [False]
    assert answer["blocking"] == [False]
    assert answer["left"] == []
    assert answer["refused"] == [
        "descriptor 4 (name1) from systemd is not a listening Unix stream socket",
        "descriptor 5 (name2) from systemd is not a listening Unix stream socket",
    ]


def test_a_count_that_is_none_is_reported() -> None:
    answer = adopt_in_child()
    assert answer["usable"] == []
    assert "LISTEN_FDS in the environment is malformed" in str(answer["refused"])
