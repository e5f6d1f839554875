"""What systemd is told, by sd_notify(3)."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self

import sdnotify

from unified_llm.domain.units import Seconds

# A manager that does not read must not stop the daemon: its socket takes a few datagrams, and a
# blocking send beyond them waits for ever. What is lost of the first kind comes again.
_DROPPABLE: Final = Seconds(0)
_IMPORTANT: Final = Seconds(1)


class Notifier(AbstractContextManager["Notifier"]):
    """Speaks to the service manager, if there is one; otherwise does nothing."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        # Without the variable sdnotify would open a socket and leave it to the garbage collector.
        self._systemd = sdnotify.SystemdNotifier() if "NOTIFY_SOCKET" in environment else None
        self._status = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._systemd is not None and self._systemd.socket is not None:
            self._systemd.socket.close()
            self._systemd = None

    def ready(self, status: str) -> None:
        """Every door answers; also ends a reload."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` must follow.

        Both lines must be in one datagram (patroni #3594: `systemctl reload` hung otherwise).
        """
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, status: str) -> None:
        """The line that `systemctl status` shows; sent only when it is another one."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}", limit=_DROPPABLE)

    def stopping(self, status: str) -> None:
        """Nothing new is taken from now on."""
        self._send("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1", limit=_DROPPABLE)

    def _send(self, *lines: str, limit: Seconds = _IMPORTANT) -> None:
        if self._systemd is None or self._systemd.socket is None:
            return
        self._systemd.socket.settimeout(limit)
        # A newline inside a value would be a further assignment.
        self._systemd.notify("\n".join(line.replace("\n", " ") for line in lines))
