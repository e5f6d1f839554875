"""Who holds how much of which device, and how much others hold."""

from collections.abc import Mapping
from dataclasses import dataclass

from unified_llm.domain.devices import RAM, DeviceId, DeviceMemory, MemoryReading
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Instant
from unified_llm.planner.evict import Amounts
from unified_llm.scheduler.effects import Generation, Ticket
from unified_llm.scheduler.policy import SchedulingPolicy

WorkerKey = tuple[ModelId, Generation]


@dataclass(slots=True)
class _Hold:
    """is_loaded: all that it takes is taken. gone: when the process ended; None while it lives."""

    sizes: dict[DeviceId, Bytes]
    is_loaded: bool = False
    gone: Instant | None = None


class MemoryLedger:
    """Memory set aside for each worker, from before its load until a reading shows it free.

    The end of a process is not the end of its memory: peers that took it for that began the next
    load too early (ollama issue 10597). A reading that was begun after the end and finds it free is
    believed; what is never found free counts as somebody else's in the end.
    """

    def __init__(self, policy: SchedulingPolicy) -> None:
        self._policy = policy
        self._holds: dict[WorkerKey, _Hold] = {}
        self._devices: dict[DeviceId, DeviceMemory] = {}
        self._foreign: dict[DeviceId, Bytes] = {}
        self._reserved: dict[Ticket, tuple[DeviceId, Bytes]] = {}
        self._faults: tuple[str, ...] = ()
        self._unusable: str | None = None
        self._gpus: tuple[DeviceId, ...] = ()

    @property
    def gpus(self) -> tuple[DeviceId, ...]:
        """Those that may be planned with, in the engine's order."""
        return self._gpus if self._unusable is None else ()

    @property
    def why_no_gpu(self) -> str | None:
        """Why there is none although there might be one; None if nothing speaks for one."""
        if self._unusable is not None:
            return self._unusable
        return " ".join(self._faults) or None if not self.gpus else None

    def foreign(self, device: DeviceId) -> Bytes | None:
        """What others hold there; None if no reading has told."""
        return self._foreign.get(device)

    def foreign_by_device(self) -> dict[DeviceId, Bytes]:
        """What others hold, wherever it is known."""
        return dict(self._foreign)

    def limit(self, device: DeviceId) -> Bytes:
        """What all workers may hold there together, as long as others hold what they do."""
        memory = self._devices.get(device)
        most = self._policy.ram_budget if device == RAM else Bytes(0)
        if memory is None or memory.total is None or device not in self._foreign:
            return most
        share = Bytes(int(memory.total * self._policy.fill_share) - self._foreign[device])
        return Bytes(max(min(share, most) if device == RAM else share, 0))

    def slack(self, device: DeviceId) -> Bytes:
        """How far the use of a GPU falls below what may be filled, once others have filled it."""
        memory = self._devices.get(device)
        if device == RAM or memory is None or memory.total is None:
            return Bytes(0)
        return Bytes(int(memory.total * (self._policy.fill_share - self._policy.relief_share)))

    def available(self, device: DeviceId) -> Bytes:
        """What workers may hold there together; below zero if more is reserved than there is."""
        return Bytes(self.limit(device) - self.reserved(device))

    def limits(self) -> dict[DeviceId, Bytes]:
        """What workers may hold of every device that may be planned with."""
        return {device: self.available(device) for device in (RAM, *self.gpus)}

    def free(self) -> dict[DeviceId, Bytes]:
        """What is held by nobody, of every device that may be planned with."""
        return {
            device: Bytes(max(size - self.committed(device), 0))
            for device, size in self.limits().items()
        }

    def reserved(self, device: DeviceId) -> Bytes:
        """What others than workers have reserved there, whether it is free yet or not."""
        return Bytes(sum(size for at, size in self._reserved.values() if at == device))

    @property
    def reservable(self) -> DeviceId:
        """Where programs reserve: the roomiest GPU, or main memory where there is none."""
        return max(self.gpus, key=self.limit, default=RAM)

    def reserve(self, ticket: Ticket, size: Bytes) -> None:
        """Keep `size` from workers until `unreserve`."""
        self._reserved[ticket] = (self.reservable, size)

    def unreserve(self, ticket: Ticket) -> None:
        """Let workers have it again; harmless if it was not reserved."""
        self._reserved.pop(ticket, None)

    def met(self) -> tuple[Ticket, ...]:
        """The reservations whose memory no worker holds, the earlier before the later."""
        left: dict[DeviceId, int] = {}
        found: list[Ticket] = []
        for ticket, (device, size) in self._reserved.items():
            before = left.get(device, self.limit(device) - self.committed(device))
            left[device] = before - size
            if left[device] >= 0:
                found.append(ticket)
        return tuple(found)

    def committed(self, device: DeviceId = RAM) -> Bytes:
        """All that is held there."""
        return Bytes(sum(hold.sizes.get(device, 0) for hold in self._holds.values()))

    def held_by_device(self) -> dict[DeviceId, Bytes]:
        """What living workers hold; copied at once, so that another thread may ask."""
        found: dict[DeviceId, Bytes] = {}
        for hold in list(self._holds.values()):
            for device, size in list(hold.sizes.items()) if hold.gone is None else ():
                found[device] = Bytes(found.get(device, 0) + size)
        return found

    def has_room(self, needs: Amounts) -> bool:
        """Whether so much is free, besides what is held."""
        return all(
            size <= self.available(device) - self.committed(device)
            for device, size in needs.items()
        )

    def held(self, model: ModelId, generation: Generation) -> Amounts:
        """What is held for one worker."""
        hold = self._holds.get((model, generation))
        return hold.sizes if hold else {}

    def hold(self, model: ModelId, generation: Generation, needs: Amounts) -> None:
        """Set memory aside for a worker about to be started."""
        self._holds[model, generation] = _Hold(dict(needs))

    def enlarge(self, model: ModelId, generation: Generation, sizes: Amounts) -> None:
        """The worker says what it took; less than was set aside may still grow, so that stays.

        Its word is bounded: a worker that has read a hostile file may say anything.
        """
        self._holds[model, generation].is_loaded = True
        held = self._holds[model, generation].sizes
        for device, size in sizes.items():
            held[device] = max(held.get(device, Bytes(0)), min(size, self.limit(device)))

    def worker_gone(self, model: ModelId, generation: Generation, now: Instant) -> None:
        """From now on the memory may be shown free."""
        self._holds[model, generation].gone = now

    def ram_returned(self, model: ModelId, generation: Generation) -> bool:
        """Its main memory is free. True if nothing else is held; False if the worker lives."""
        hold = self._holds.get((model, generation))
        if hold is None or hold.gone is None:
            return False
        hold.sizes.pop(RAM, None)
        return not hold.sizes and self.release(model, generation)

    def release(self, model: ModelId, generation: Generation) -> bool:
        """Nobody waits for its memory any more; what no reading has shown free is somebody else's.

        False if it was so already, or the worker still lives.
        """
        hold = self._holds.get((model, generation))
        if hold is None or hold.gone is None:
            return False
        for device in hold.sizes.keys() & self._foreign.keys() - {RAM}:
            self._foreign[device] = Bytes(self._foreign[device] + hold.sizes[device])
        del self._holds[model, generation]
        return True

    def observe(
        self, reading: MemoryReading, workers: Mapping[WorkerKey, int]
    ) -> tuple[WorkerKey, ...]:
        """Take a reading. workers: the process of each worker that lives.

        The gone workers whose memory is free by this reading.
        """
        self._faults = reading.faults
        self._devices = {device.id: device for device in reading.devices}
        self._gpus = tuple(
            device.id for device in reading.devices if device.id != RAM and device.free is not None
        )
        returned = tuple(
            key
            for key, hold in self._holds.items()
            if hold.gone is not None
            and hold.gone <= reading.taken
            and not any(self._lingers(hold, device, workers) for device in reading.devices)
        )
        for key in returned:
            del self._holds[key]
        before, self._foreign = self._foreign, {}
        for device in reading.devices:
            foreign = self._foreign_of(device, workers, before.get(device.id))
            if foreign is not None:
                self._foreign[device.id] = foreign
        return returned

    def disable_gpus(self, reason: str) -> None:
        """The engine can not use them, and will not learn to before the daemon's next start, unless
        they were lost."""
        self._unusable = reason

    def enable_gpus(self) -> None:
        """Those that were lost work again, so the engine is to try."""
        self._unusable = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held for any worker, past ones included."""
        return not self._holds

    @property
    def awaits_return(self) -> bool:
        """Whether memory of a worker that is gone is still held."""
        return any(hold.gone is not None for hold in self._holds.values())

    def _lingers(self, hold: _Hold, device: DeviceMemory, workers: Mapping[WorkerKey, int]) -> bool:
        """Whether most of it is still there, if others hold what they held before."""
        size = hold.sizes.get(device.id, 0)
        if device.used is None or not size:
            return False
        seen, unseen = self._ours(device, workers)
        gone = sum(
            each.sizes.get(device.id, 0) for each in self._holds.values() if each.gone is not None
        )
        living = seen + unseen - gone
        return device.used - living - self._foreign.get(device.id, 0) >= size / 2

    def _foreign_of(
        self, device: DeviceMemory, workers: Mapping[WorkerKey, int], before: Bytes | None
    ) -> Bytes | None:
        if device.used is None:
            return None
        seen, unseen = self._ours(device, workers)
        most = max(device.used - seen, 0)
        least = max(most - unseen, 0)
        is_steady = all(hold.is_loaded for hold in self._holds.values())
        # One that still loads has not taken all that is held for it. Where the kernel does not show
        # what it has taken, the truth is between these two, and the last known value a good guess.
        return Bytes(least if before is None or is_steady else min(max(before, least), most))

    def _ours(self, device: DeviceMemory, workers: Mapping[WorkerKey, int]) -> tuple[int, int]:
        """What the kernel shows of our workers there, and what is held for those it does not."""
        seen = unseen = 0
        for key, hold in self._holds.items():
            shown = device.used_by(workers[key]) if key in workers else None
            if shown is None:
                unseen += hold.sizes.get(device.id, 0)
            else:
                seen += shown
        return seen, unseen
