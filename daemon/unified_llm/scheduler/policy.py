"""The numbers by which the scheduler decides."""

from dataclasses import dataclass

from unified_llm.domain.units import Bytes, Seconds
from unified_llm.planner.evict import EvictionPolicy
from unified_llm.planner.fit import DEFAULT_ORDER, Sacrifice


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """Limits and deadlines; the application fills them from the settings.

    ram_budget: main memory all models may take together.
    fill_share: of a device's memory, other programs' part included, that may be in use.
    relief_share: to which use falls, by models that shrink or leave, once others have pushed it
        above fill_share; up to it they come back.
    sacrifices: what a model gives up where memory is short, the first thing first.
    queue_limit: requests that may wait for one model.
    full_queue_retry: what a caller is told to wait who found the queue full or waited in vain,
        as long as nothing is known of how fast the model serves.
    load_deadline: longest time in LOADING.
    drain_grace: longest time in DRAINING.
    stop_grace: what a worker gets to end by itself before it is killed.
    stop_deadline: what a killed worker gets to be gone; then it is reported stuck.
    memory_return_limit: longest wait for a reading to show the memory of a gone worker free.
    eviction: who leaves first when a model needs room.
    turn: how long a model in use may keep another waiting before it must make room; so also how
        long it may serve after a load, if that is not lengthened for `swap_share`.
    swap_share: of the time of models that take turns, so much may go to loading; what loads slowly
        has longer turns, up to `ageing`.
    ageing: a wait of that long outweighs the whole range of priorities.
    backoff_first, backoff_last, backoff_factor: delay before a worker is replaced, and its growth.
    failures_before_failed: deaths and failed loads within failure_window that make a model FAILED.
    """

    ram_budget: Bytes
    fill_share: float = 0.85
    relief_share: float = 0.80
    sacrifices: tuple[Sacrifice, ...] = DEFAULT_ORDER
    queue_limit: int = 64
    full_queue_retry: Seconds = Seconds(5)
    load_deadline: Seconds = Seconds(600)
    drain_grace: Seconds = Seconds(30)
    stop_grace: Seconds = Seconds(5)
    stop_deadline: Seconds = Seconds(10)
    memory_return_limit: Seconds = Seconds(5)
    eviction: EvictionPolicy = EvictionPolicy.COST
    turn: Seconds = Seconds(10)
    swap_share: float = 0.2
    ageing: Seconds = Seconds(60)
    backoff_first: Seconds = Seconds(1)
    backoff_last: Seconds = Seconds(300)
    backoff_factor: float = 2.0
    failures_before_failed: int = 5
    failure_window: Seconds = Seconds(600)
