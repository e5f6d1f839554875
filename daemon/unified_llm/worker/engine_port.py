"""What the worker's session needs of an engine. The real one and the fake one pass one suite.

An engine does nothing by itself: the session gives it requests and calls `step` while it is busy.
All methods belong to one thread, except `interrupt` and `hurry`. An engine is for one purpose, and
refuses requests of another.
"""

from collections.abc import Callable
from typing import Protocol

from unified_llm.domain.profile import Purpose
from unified_llm.worker.protocol import (
    Call,
    Delta,
    Done,
    Embed,
    Failed,
    Generate,
    Load,
    Loaded,
    Rank,
    Rehearsed,
    Started,
    Vector,
)

Request = Generate | Embed | Rank
"""What an engine is asked."""

Report = Started | Delta | Call | Vector | Done | Failed
"""What a step can bring for a request, in the order that `protocol` states."""

OnProgress = Callable[[float], None]
"""Takes the fraction of the model file that has been read, 0 to 1."""

Pulse = Callable[[], None]
"""Called from inside a long step whenever the computation has moved on; never by a stuck one."""


Rehearsal = Callable[[Load], Rehearsed]
"""Says what a load would take, without taking it. Raises ModelFailedToLoad, GpuUnusable."""


class Engine(Protocol):
    """One loaded model that answers several requests at the same time."""

    @property
    def steps_done(self) -> int:
        """Decode steps since the start, aborted ones included."""

    @property
    def active(self) -> int:
        """Requests in a slot."""

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""

    @property
    def is_busy(self) -> bool:
        """Whether `step` has something to do."""

    def load(self, load: Load, on_progress: OnProgress) -> Loaded:
        """Read the model; called once, first. Raises ModelFailedToLoad."""

    def submit(self, request: Request) -> None:
        """Accept a request. One that cannot be served is answered by the next step."""

    def cancel(self, request_id: int) -> None:
        """End a request: the next step answers it with Failed. An unknown id is no error."""

    def interrupt(self, request_id: int) -> None:
        """Announce a `cancel` from another thread, so that a step in progress ends early for it.

        `cancel` must follow from the engine's own thread.
        """

    def hurry(self) -> None:
        """Have the step in progress, and all that follow, end early. From another thread."""

    def save_states(self) -> None:
        """Hand all that is worth it to the daemon, before the process ends."""

    def drop_state(self, state: int) -> None:
        """The daemon does not keep this state any more."""

    def pause(self, request_id: int) -> None:
        """Compute no more of a request until `resume`; it keeps its slot. Unknown is no error."""

    def resume(self, request_id: int) -> None:
        """Go on with a request. One that is not paused is no error."""

    def step(self, pulse: Pulse) -> list[Report]:
        """What there is to tell, such as Started; if nothing, one decode step for all in slots."""

    def close(self) -> None:
        """Free the model. Requests still there are dropped."""


OpenEngine = Callable[[Purpose], Engine]
"""An engine for models of that purpose, with nothing loaded yet."""
