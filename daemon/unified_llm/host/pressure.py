"""Tells when programs wait for main memory, by the kernel's pressure stall information.

Documentation/accounting/psi.rst: a threshold is written to the file, and poll(2) then tells POLLPRI
when it is crossed, at most once per window. An unprivileged watcher's window is a multiple of two
seconds. epoll tells it too, but asyncio asks for other events, so a thread waits: it sleeps in the
kernel until something is the matter.
"""

import asyncio
import os
import select
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from unified_llm.domain.units import Seconds

_WINDOW: Final = Seconds(2)
_MICROSECONDS: Final = 1_000_000
_MACHINE: Final = Path("/proc/pressure/memory")


def pressure_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Where to watch, the best first: the whole machine, then this service's own control group.

    MEMORY_PRESSURE_WATCH: as in systemd's "Memory Pressure Handling".
    """
    own = environment.get("MEMORY_PRESSURE_WATCH", "")
    return (_MACHINE, Path(own)) if own.startswith("/sys/") else (_MACHINE,)


@contextmanager
def open_pressure_watch(
    files: Sequence[Path],
    percent: int,
    on_pressure: Callable[[], None],
    *,
    window: Seconds = _WINDOW,
) -> Iterator[str | None]:
    """Call `on_pressure` in this loop when tasks wait for `percent` of a window of two seconds.

    At most once in each window. Gives a sentence on why nothing is watched; None if it is.
    """
    with ExitStack() as stack:
        try:
            trigger = _open_trigger(files, percent)
        except OSError as error:
            yield f"The kernel does not tell of memory pressure: {error}."
            return
        stack.callback(os.close, trigger)
        stop, stopping = os.pipe()
        stack.callback(os.close, stop)
        loop = asyncio.get_running_loop()

        def tell() -> None:
            # The loop may be gone by the time the thread hears of it.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(on_pressure)

        thread = threading.Thread(target=_wait, args=(trigger, stop, tell, window), name="pressure")
        thread.start()
        stack.callback(thread.join)
        stack.callback(os.close, stopping)
        yield None


def _open_trigger(files: Sequence[Path], percent: int) -> int:
    """Raises OSError: why the last of `files` did not do."""
    failure = OSError("no file to watch")
    size = int(_WINDOW * _MICROSECONDS)
    for file in files:
        try:
            trigger = os.open(file, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            failure = error
            continue
        try:
            os.write(trigger, f"some {size * percent // 100} {size}\0".encode())
        except OSError as error:
            os.close(trigger)
            failure = OSError(error.errno, error.strerror, str(file))
        else:
            return trigger
    raise failure


def _wait(trigger: int, stop: int, tell: Callable[[], None], window: Seconds) -> None:
    news, rest = select.poll(), select.poll()
    news.register(trigger, select.POLLPRI)
    for poll in (news, rest):
        poll.register(stop, select.POLLIN)
    while True:
        found = dict(news.poll())
        if stop in found or found.get(trigger, 0) & (select.POLLERR | select.POLLNVAL):
            return
        tell()
        if rest.poll(int(window * 1000)):
            return
