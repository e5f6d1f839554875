"""Starts workers: file, socketpair, process and channel, each closed by who opened it."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.models import ModelSpec
from unified_llm.fleet.channel import open_channel
from unified_llm.fleet.model_file import open_model_file
from unified_llm.fleet.model_worker import ModelWorker
from unified_llm.fleet.oom import OomKills
from unified_llm.fleet.patience import Patience
from unified_llm.fleet.process import Launch, open_process
from unified_llm.fleet.timers import Timers
from unified_llm.fleet.worker_link import WorkerLink


class Launcher:
    """Starts workers the same way every time."""

    def __init__(
        self, launch: Launch, *, timers: Timers, patience: Patience, oom: OomKills
    ) -> None:
        self._launch = launch
        self._timers = timers
        self._patience = patience
        self._oom = oom

    @asynccontextmanager
    async def open_worker(self, spec: ModelSpec) -> AsyncIterator[ModelWorker]:
        """A worker that has been started and not told anything yet.

        Leaving the context kills it if it still runs; then it is reaped. Raises ModelFailedToLoad.
        """
        async with AsyncExitStack() as stack:
            file = await stack.enter_async_context(open_model_file(spec))
            ours, theirs = _open_pair()
            stack.callback(ours.close)
            with theirs:
                process = await stack.enter_async_context(
                    open_process(
                        self._launch,
                        name=spec.id,
                        socket=theirs.fileno(),
                        model=file.descriptor,
                        clock=self._timers,
                        oom=self._oom,
                    )
                )
            channel = await stack.enter_async_context(open_channel(ours))
            yield ModelWorker(
                WorkerLink(spec.id, process, channel, file, self._timers, self._patience)
            )


def _open_pair() -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair()
    except OSError as error:
        raise ModelFailedToLoad(
            f"The channel to the worker cannot be opened: {error.strerror or error}.",
            hint="The limits of the daemon's unit may be too low.",
        ) from error
