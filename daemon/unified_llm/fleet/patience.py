"""How long a worker may take, and whether it has taken longer. Pure: it is told the time."""

from dataclasses import dataclass

from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.worker.protocol import Heartbeat


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker may take.

    hello: from the start of the process to its first word.
    load_silence: between two signs of life while loading; a slow disk gives few.
    progress: between two signs of progress while it has requests.
    second_look: an overdue worker is looked at again after this; a daemon that was itself frozen
        must first read what has come in meanwhile.
    cancel: from a Cancel to the end of the request.
    exit: from the end of the channel to the end of the process.
    """

    hello: Seconds = Seconds(30.0)
    load_silence: Seconds = Seconds(300.0)
    progress: Seconds = Seconds(30.0)
    second_look: Seconds = Seconds(1.0)
    cancel: Seconds = Seconds(5.0)
    exit: Seconds = Seconds(2.0)


class Vigil:
    """Watches over the progress of a worker that has requests; over an idle one it sleeps.

    A request whose reader is slow is paused, and nothing is expected of it.

    Progress is any frame of a request, and a heartbeat that tells of other work than the last: the
    decode loop sends them from within a long step too, so a slow prefill is not taken for a hang.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._open: set[int] = set()
        self._paused: set[int] = set()
        self._due_after_cancel: dict[int, Instant] = {}
        self._last_progress = Instant(0.0)
        self._last_work: tuple[int, float] | None = None

    def on_opened(self, number: int, now: Instant) -> None:
        """A request goes to the worker."""
        if not self._owes_progress:
            self._last_progress = now
        self._open.add(number)

    def on_cancelled(self, number: int, now: Instant) -> None:
        """The worker has been told to end a request."""
        self._due_after_cancel.setdefault(number, later(now, self._patience.cancel))

    def on_paused(self, number: int) -> None:
        """The worker has been told to leave a request alone: its reader is slow."""
        self._paused.add(number)

    def on_resumed(self, number: int, now: Instant) -> None:
        """The worker has been told to go on with a request."""
        if not self._owes_progress:
            self._last_progress = now
        self._paused.discard(number)

    def on_frame(self, now: Instant) -> None:
        """The worker has said something about a request."""
        self._last_progress = now

    def on_heartbeat(self, beat: Heartbeat, now: Instant) -> None:
        """The worker has told how far it is."""
        work = (beat.steps_done, beat.busy_seconds)
        if work != self._last_work:
            self._last_progress = now
        self._last_work = work

    def on_ended(self, number: int) -> None:
        """A request is over."""
        self._open.discard(number)
        self._paused.discard(number)
        self._due_after_cancel.pop(number, None)

    def next_look(self) -> Instant | None:
        """When there may be something to complain of; None while the worker owes nothing."""
        stalls = [self._stalls_at()] if self._owes_progress else []
        return min([*stalls, *self._due_after_cancel.values()], default=None)

    def complaint(self, now: Instant) -> str | None:
        """What the worker has failed to do in time, as a sentence; None if all is well."""
        due = self.next_look()
        if due is None or due > now:
            return None
        if self._owes_progress and self._stalls_at() <= now:
            return f"It made no progress for {self._patience.progress:g} s."
        return f"It did not stop a cancelled request within {self._patience.cancel:g} s."

    @property
    def _owes_progress(self) -> bool:
        return bool(self._open - self._paused)

    def _stalls_at(self) -> Instant:
        return later(self._last_progress, self._patience.progress)
