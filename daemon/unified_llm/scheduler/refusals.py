"""What the scheduler tells those whom it refuses."""

from typing import Final

from unified_llm.domain.errors import Closing, GpuUnusable, Inhibited, NoRoom, QueueFull
from unified_llm.domain.units import Seconds
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.state import ModelRecord

# Below the first, clients only knock; beyond the second, nothing is known of what comes.
_SHORTEST_RETRY: Final = Seconds(1)
_LONGEST_RETRY: Final = Seconds(600)


def closing() -> Closing:
    """The daemon stops."""
    return Closing("The daemon is stopping and takes no new requests.")


def again(inhibited: Inhibited) -> Inhibited:
    """The same for one more caller: raising an error adds its traceback to it."""
    return Inhibited(inhibited.message, hint=inhibited.hint)


def lost(gpus: GpuUnusable) -> GpuUnusable:
    """As `again`."""
    return GpuUnusable(gpus.message, hint=gpus.hint)


def queue_full(record: ModelRecord, policy: SchedulingPolicy) -> QueueFull:
    """Too many wait for the model."""
    return QueueFull(
        f"{len(record.queue)} requests wait for {record.id}; no more than "
        f"{policy.queue_limit} may, shared evenly among users.",
        retry_after=retry_after(record, policy),
    )


def retry_after(record: ModelRecord, policy: SchedulingPolicy) -> Seconds:
    """When those who wait now will have been served, by what the model was seen to do."""
    expected = record.pace.until_served(
        len(record.queue), record.slots, is_loaded=record.loaded is not None
    )
    if expected is None:
        return policy.full_queue_retry
    return Seconds(min(max(expected, _SHORTEST_RETRY), _LONGEST_RETRY))


def out_of_memory(record: ModelRecord, set_aside: str, error: NoRoom) -> NoRoom:
    """The load ran out of memory for good. set_aside: what the ledger held for it, in words."""
    return NoRoom(
        f"{record.id} ran out of memory while loading, although {set_aside} were set aside "
        f"for it: {error.message}",
        hint=error.hint or "Ask for less context or fewer slots.",
    )
