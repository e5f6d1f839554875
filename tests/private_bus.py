"""A message bus of our own, as strict as the system's.

A real dbus-daemon under the distribution's own system.conf, which denies by default, and the policy
file we ship. Only who may own the name is changed: the user a test runs as has no account called
unified-llm.
"""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIPPED_POLICY = Path(__file__).parent.parent / "daemon" / "data" / "org.unifiedllm1.conf"
SYSTEM_CONF = Path("/usr/share/dbus-1/system.conf")

# What ties the distribution's file to the one system bus. The rules themselves stay as they are.
_LEFT_OUT = (
    "user",
    "fork",
    "pidfile",
    "servicehelper",
    "standard_system_servicedirs",
    "syslog",
    "listen",
    "includedir",
)


@dataclass(frozen=True, slots=True)
class PrivateBus:
    """A running bus; its `environment` makes programs take it for the system's."""

    address: str
    process: "subprocess.Popen[str]"

    @property
    def environment(self) -> dict[str, str]:
        """What to run clients with."""
        return {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.address, "LC_ALL": "C.UTF-8"}

    def run(
        self, *command: str, user: str | None = None, timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Run a client program, as another user if need be, and collect what it says."""
        result: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd="/",
            **(as_whom(user) if user else {}),
        )
        return result


def as_whom(user: str) -> dict[str, Any]:
    """Arguments for subprocess that run a program as `user`, without our groups."""
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}


@contextmanager
def effective_user(user: str) -> Iterator[None]:
    """Be `user` for the kernel while a connection is made: the bus keeps what it then was told."""
    entry = pwd.getpwnam(user)
    groups = os.getgroups()
    gid, uid = os.getegid(), os.geteuid()
    os.setgroups([entry.pw_gid])
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups)


@contextmanager
def private_bus(owner: str = "root", *, policies: Sequence[Path] = ()) -> Iterator[PrivateBus]:
    """Start a bus on which the user `owner` may own our name.

    policies: further policy files to include. Raises if there is no dbus-daemon.
    """
    folder = Path(tempfile.mkdtemp(prefix="private-bus-"))
    folder.chmod(0o755)
    try:
        shipped = folder / "org.unifiedllm1.conf"
        shipped.write_text(
            SHIPPED_POLICY.read_text().replace('user="unified-llm"', f'user="{owner}"')
        )
        config = folder / "bus.conf"
        config.write_text(_render_config(folder / "socket", (shipped, *policies)))
        log = folder / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [
                    "dbus-daemon",
                    f"--config-file={config}",
                    "--nofork",
                    "--nopidfile",
                    "--print-address",
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            try:
                address = process.stdout.readline().strip()
                assert address, f"dbus-daemon has not started: {log.read_text()}"
                yield PrivateBus(address, process)
            finally:
                process.kill()
    finally:
        shutil.rmtree(folder)


@contextmanager
def private_session_bus(data: Path) -> Iterator[str]:
    """The address of a session bus with the distribution's own configuration.

    data: its XDG_DATA_HOME, where it finds services to start.
    """
    with subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_DATA_HOME": str(data), "XDG_DATA_DIRS": str(data)},
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def _render_config(socket: Path, policies: Sequence[Path]) -> str:
    text = SYSTEM_CONF.read_text()
    for tag in _LEFT_OUT:
        text = re.sub(rf"<{tag}\s*/>|<{tag}>.*?</{tag}>", "", text)
    includes = "".join(f"<include>{policy}</include>" for policy in policies)
    return text.replace(
        "</busconfig>", f"<listen>unix:path={socket}</listen>{includes}</busconfig>"
    )
