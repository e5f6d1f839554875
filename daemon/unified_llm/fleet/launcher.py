"""Starts workers: file, socketpair, process and channel, each closed by who opened it."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.models import ModelSpec
from unified_llm.domain.ports import Timers
from unified_llm.domain.profile import Purpose
from unified_llm.fleet.channel import open_channel
from unified_llm.fleet.kept_states import KeptStates
from unified_llm.fleet.model_file import open_model_file
from unified_llm.fleet.model_worker import ModelWorker
from unified_llm.fleet.oom import OomKills
from unified_llm.fleet.patience import Patience
from unified_llm.fleet.process import Launch, open_process
from unified_llm.fleet.state_door import open_state_door
from unified_llm.fleet.worker_link import NoStates, StatesForWorker, WorkerLink
from unified_llm.worker import state_channel


class Launcher:
    """Starts workers the same way every time."""

    def __init__(
        self,
        launch: Launch,
        *,
        timers: Timers,
        patience: Patience,
        oom: OomKills,
        states: KeptStates,
    ) -> None:
        self._launch = launch
        self._timers = timers
        self._patience = patience
        self._oom = oom
        self._states = states

    @asynccontextmanager
    async def open_worker(self, spec: ModelSpec) -> AsyncIterator[ModelWorker]:
        """A worker that has been started and not told anything yet.

        Leaving the context kills it if it still runs; then it is reaped. Raises ModelFailedToLoad.
        """
        async with AsyncExitStack() as stack:
            file = await stack.enter_async_context(open_model_file(spec))
            ours, theirs = _open_pair(socket.socketpair)
            stack.callback(ours.close)
            with theirs, ExitStack() as handed_over:
                states, states_end = self._open_states(spec, stack, handed_over)
                process = await stack.enter_async_context(
                    open_process(
                        self._launch,
                        name=spec.id,
                        socket=theirs.fileno(),
                        models=file.descriptors,
                        states=states_end,
                        clock=self._timers,
                        oom=self._oom,
                    )
                )
            channel = await stack.enter_async_context(open_channel(ours))
            yield ModelWorker(
                WorkerLink(
                    spec.id,
                    process,
                    channel,
                    file,
                    self._timers,
                    self._patience,
                    states,
                    spec.purpose,
                )
            )

    def _open_states(
        self, spec: ModelSpec, stack: AsyncExitStack, handed_over: ExitStack
    ) -> tuple[StatesForWorker, int | None]:
        """The worker's way to kept states, and the descriptor it inherits, if any are kept."""
        is_chat = spec.purpose is Purpose.CHAT  # nothing else goes on where it ended
        if self._states.is_closed or spec.identity is None or not is_chat:
            return NoStates(), None
        ours, theirs = _open_pair(state_channel.open_pair)
        handed_over.enter_context(theirs)
        stack.enter_context(ours)
        door = stack.enter_context(
            open_state_door(ours, self._states, spec.identity, spec.sound_adapters)
        )
        return door, theirs.fileno()


def _open_pair(
    open_pair: Callable[[], tuple[socket.socket, socket.socket]],
) -> tuple[socket.socket, socket.socket]:
    try:
        return open_pair()
    except OSError as error:
        raise ModelFailedToLoad(
            f"The channel to the worker cannot be opened: {error.strerror or error}.",
            hint="The limits of the daemon's unit may be too low.",
        ) from error
