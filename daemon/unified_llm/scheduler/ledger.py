"""Who holds how much of the memory budget."""

from dataclasses import dataclass

from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes
from unified_llm.scheduler.effects import Generation, Ticket


@dataclass(slots=True)
class _Hold:
    size: Bytes
    is_worker_gone: bool = False


class MemoryLedger:
    """Memory set aside for each worker, from before its load until a reading shows it free.

    The end of a process is not the end of its memory: peers that took it for that began the next
    load too early (ollama issue 10597).
    """

    def __init__(self, budget: Bytes) -> None:
        self.budget = budget
        self._holds: dict[tuple[ModelId, Generation], _Hold] = {}
        self._reserved: dict[Ticket, Bytes] = {}

    @property
    def committed(self) -> Bytes:
        """All that is held by workers."""
        return Bytes(sum(hold.size for hold in self._holds.values()))

    @property
    def reserved(self) -> Bytes:
        """All that others than workers have reserved, whether it is free yet or not."""
        return Bytes(sum(self._reserved.values()))

    @property
    def available(self) -> Bytes:
        """What workers may take together."""
        return Bytes(self.budget - self.reserved)

    @property
    def free(self) -> Bytes:
        """What is left of the budget; below zero if workers took more than was expected, or still
        hold what is reserved."""
        return Bytes(self.available - self.committed)

    def reserve(self, ticket: Ticket, size: Bytes) -> None:
        """Keep `size` from workers until `unreserve`."""
        self._reserved[ticket] = size

    def unreserve(self, ticket: Ticket) -> None:
        """Let workers have it again; harmless if it was not reserved."""
        self._reserved.pop(ticket, None)

    def met(self) -> tuple[Ticket, ...]:
        """The reservations whose memory no worker holds, the earlier before the later."""
        left = Bytes(self.budget - self.committed)
        found: list[Ticket] = []
        for ticket, size in self._reserved.items():
            left = Bytes(left - size)
            if left < 0:
                break
            found.append(ticket)
        return tuple(found)

    def held(self, model: ModelId, generation: Generation) -> Bytes:
        """What is held for one worker; 0 if nothing is."""
        hold = self._holds.get((model, generation))
        return hold.size if hold else Bytes(0)

    def hold(self, model: ModelId, generation: Generation, size: Bytes) -> None:
        """Set `size` aside for a worker about to be started."""
        self._holds[model, generation] = _Hold(size)

    def enlarge(self, model: ModelId, generation: Generation, size: Bytes) -> None:
        """The worker says it took `size`; less than was set aside may still grow, so that stays.

        Its word is bounded: a worker that has read a hostile file may say anything.
        """
        hold = self._holds[model, generation]
        hold.size = max(hold.size, min(size, self.budget))

    def worker_gone(self, model: ModelId, generation: Generation) -> None:
        """From now on the memory may be shown free."""
        self._holds[model, generation].is_worker_gone = True

    def release(self, model: ModelId, generation: Generation) -> bool:
        """The memory is free. False if it was so already, or the worker still lives."""
        hold = self._holds.get((model, generation))
        if hold is None or not hold.is_worker_gone:
            return False
        del self._holds[model, generation]
        return True

    @property
    def awaits_return(self) -> bool:
        """Whether memory of a worker that is gone is still held."""
        return any(hold.is_worker_gone for hold in self._holds.values())
