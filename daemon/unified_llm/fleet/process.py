"""One worker process, owned alone: how it is started, how it is ended, how its end is known.

The end is seen through a pidfd in the event loop: asyncio's own child watcher of Python 3.11 starts
a thread per child. The process is always reaped, also when everything around it is cancelled.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.ports import Clock
from unified_llm.domain.units import Bytes
from unified_llm.fleet.oom import OomKills
from unified_llm.fleet.worker_output import WorkerOutput

_log = logging.getLogger(__name__)

# Under memory pressure the kernel shall take a worker, which can be replaced, not the daemon.
_OOM_SCORE_ADJUSTMENT = "500"
_UNKILLABLE_AFTER_SECONDS = 10.0
# All a worker is given: it holds no secret, and it starts itself anew to be rid of anything more.
# A failed assertion in ggml would start a debugger first, and take a second to die.
# CUDA's own order is by speed; the planner deals layers out in the order of the bus.
_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@dataclass(frozen=True, slots=True)
class Launch:
    """How workers are started.

    engine: `llama` or `fake`. is_sandbox_required: whether a worker may run without Landlock or
    seccomp where the kernel has none. states_bytes: most that one kept state may take. command:
    what comes before the worker's own options.
    """

    engine: str
    is_sandbox_required: bool = True
    states_bytes: Bytes = Bytes(0)
    command: tuple[str, ...] = (sys.executable, "-I", "-m", "unified_llm.worker")

    def arguments(self, *, socket: int, models: tuple[int, ...], states: int | None) -> list[str]:
        """The command line of a worker with these descriptors. states: None for none."""
        options = {
            "--socket-fd": socket,
            "--engine": self.engine,
            "--parent-pid": os.getpid(),
            "--sandbox": "required" if self.is_sandbox_required else "best-effort",
        }
        if states is not None:
            options |= {"--states-fd": states, "--states-bytes": self.states_bytes}
        kept = [("--keep-fd", each) for each in models]
        return [*self.command, *(str(word) for pair in (*options.items(), *kept) for word in pair)]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended. returncode: as subprocess gives it, a signal is negative."""

    returncode: int
    out_of_memory: bool = False

    def __str__(self) -> str:
        if self.out_of_memory:
            return "It was killed by the kernel because memory ran out."
        if self.returncode >= 0:
            return f"It exited with code {self.returncode}."
        try:
            return f"It was killed by {signal.Signals(-self.returncode).name}."
        except ValueError:
            return f"It was killed by signal {-self.returncode}."


class WorkerProcess:
    """A running child. Made by open_process."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", pidfd: int, output: WorkerOutput, oom: OomKills
    ) -> None:
        self._child = child
        self._pidfd = pidfd
        self._output = output
        self._oom = oom
        self._killed_by_us = False
        self._ending: Ending | None = None
        self._exited = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._reap)

    @property
    def pid(self) -> int:
        """The process id; belongs to it until it has been reaped."""
        return self._child.pid

    async def exited(self) -> Ending:
        """Wait until it has ended and has been reaped."""
        while self._ending is None:
            await self._exited.wait()
        return self._ending

    def terminate(self) -> None:
        """Ask it to end by SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL, which also works on a stopped process."""
        self._killed_by_us = True
        self._signal(signal.SIGKILL)

    async def ensure_gone(self) -> None:
        """Kill it if it runs, and wait until it has been reaped."""
        if self._ending is not None:
            return
        self.kill()
        alarm = self._loop.call_later(_UNKILLABLE_AFTER_SECONDS, self._tell_unkillable)
        try:
            await self.exited()
        finally:
            alarm.cancel()
            if self._ending is None:
                # Cancelled once more while cleaning up: SIGKILL is out, so this wait is short.
                self._reap()

    def _signal(self, number: signal.Signals) -> None:
        if self._ending is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def _reap(self) -> None:
        returncode = self._child.wait()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._output.close()
        unasked = returncode == -signal.SIGKILL and not self._killed_by_us
        self._ending = Ending(returncode, out_of_memory=unasked and self._oom.took_one() is True)
        self._exited.set()

    def _tell_unkillable(self) -> None:
        _log.error(
            "worker process %d is still there %.0f s after SIGKILL; its memory is not free",
            self.pid,
            _UNKILLABLE_AFTER_SECONDS,
        )


@asynccontextmanager
async def open_process(
    launch: Launch,
    *,
    name: str,
    socket: int,
    models: tuple[int, ...],
    states: int | None,
    clock: Clock,
    oom: OomKills,
) -> AsyncIterator[WorkerProcess]:
    """A worker that inherits the descriptors; gone and reaped when the context is left.

    name: for the log. socket, models, states: as in Launch.arguments. Raises ModelFailedToLoad if
    it cannot be started.
    """
    try:
        passed = (socket, *models, *(() if states is None else (states,)))
        arguments = launch.arguments(socket=socket, models=models, states=states)
        process = _spawn(arguments, passed, name, clock, oom)
    except OSError as error:
        raise ModelFailedToLoad(
            f"The worker process cannot be started: {error.strerror or error}.",
            hint="The daemon's log and its unit's limits tell more.",
        ) from error
    try:
        yield process
    finally:
        await process.ensure_gone()


def _spawn(
    arguments: list[str], passed: tuple[int, ...], name: str, clock: Clock, oom: OomKills
) -> WorkerProcess:
    if threading.current_thread() is not threading.main_thread():
        # The kernel's parent-death signal is sent when the forking thread ends, not the process.
        raise RuntimeError("workers are started from the main thread only")
    with ExitStack() as undo:
        reading, writing = os.pipe()
        undo.callback(os.close, reading)
        try:
            child = subprocess.Popen(  # noqa: S603 - the command comes from the composition root
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=passed,
                env=_ENVIRONMENT,
                cwd="/",
                umask=0o077,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        undo.callback(child.wait)
        undo.callback(child.kill)
        pidfd = os.pidfd_open(child.pid)
        undo.pop_all()
    _prefer_for_oom_killer(child.pid)
    return WorkerProcess(child, pidfd, WorkerOutput(reading, f"{name}[{child.pid}]", clock), oom)


def _prefer_for_oom_killer(pid: int) -> None:
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text(_OOM_SCORE_ADJUSTMENT)
    except OSError as error:
        _log.warning("worker %d: its OOM score stays as it is: %s", pid, error)
