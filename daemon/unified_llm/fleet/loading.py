"""The first part of a worker's life: from its first word to a model that serves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.devices import RAM, DeviceId
from unified_llm.domain.errors import GpuUnusable, ModelFailedToLoad, NoRoom, WorkerDied
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Seconds, Tokens, later
from unified_llm.fleet.faults import shown
from unified_llm.fleet.worker_link import WorkerLink
from unified_llm.worker.protocol import (
    PROTOCOL_VERSION,
    FromWorker,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    NotConfined,
    Progress,
    Rehearse,
    Rehearsed,
)

_FAILURES: Final = {error.code: error for error in (ModelFailedToLoad, NoRoom, GpuUnusable)}


@dataclass(frozen=True, slots=True)
class Serving:
    """A worker whose model serves.

    placement: what it was given. memory: what it says it took of each device. sandbox: layers it is
    confined by. build: its engine.
    """

    loaded: Loaded
    placement: Placement
    memory: Mapping[DeviceId, Bytes]
    sandbox: tuple[str, ...]
    build: str


async def load_model(
    link: WorkerLink, placement: Placement, on_progress: Callable[[float], None]
) -> Serving:
    """Have the worker load its model. on_progress takes fractions.

    Raises ModelFailedToLoad, NoRoom if memory ran out, and GpuUnusable.
    """
    try:
        hello = await _expect_hello(link)
        await link.channel.send(_load_message(link, placement))
        loaded = await _expect_loaded(link, placement, on_progress)
    except WorkerDied as error:
        raise ModelFailedToLoad(
            f"The worker of {link.model} ended while loading. {error.message}"
        ) from error
    link.states.serve(
        (hello.engine, hello.build),
        Tokens(loaded.context_tokens),
        placement.cache_type,
        on_dropped=link.channel.drop_state,
        on_violation=link.process.kill,
    )
    # Somebody may have written to the file while it was read.
    link.file.ensure_unchanged()
    build = f"{hello.engine} {hello.build}"
    return Serving(loaded, placement, _memory(placement, loaded), hello.sandbox, build)


async def rehearse_model(link: WorkerLink, placement: Placement) -> Rehearsed:
    """Have the worker say what loading its model would take, and end.

    Raises ModelFailedToLoad, GpuUnusable.
    """
    try:
        await _expect_hello(link)
        await link.channel.send(Rehearse(load=_load_message(link, placement)))
        return await _expect_rehearsed(link)
    except (WorkerDied, NoRoom) as error:
        raise ModelFailedToLoad(
            f"The worker of {link.model} ended in a dry run. {error.message}"
        ) from error


async def _expect_rehearsed(link: WorkerLink) -> Rehearsed:
    match await _receive_within(link, link.patience.load_silence):
        case Rehearsed() as said:
            return said
        case LoadFailed() as failure:
            raise _failure(link, failure)
        case unexpected:
            raise WorkerDied(f"It sent {shown(repr(unexpected))} in a dry run.")


def _failure(link: WorkerLink, said: LoadFailed) -> ModelFailedToLoad | NoRoom | GpuUnusable:
    kind = _FAILURES.get(said.code, ModelFailedToLoad)
    return kind(f"{link.model} cannot be loaded: {shown(said.message)}")


def _load_message(link: WorkerLink, placement: Placement) -> Load:
    return Load(
        model=link.model,
        path=link.file.paths_in_worker[0],
        more_paths=link.file.paths_in_worker[1:],
        context_tokens=placement.context_tokens,
        slots=placement.slots,
        threads=placement.threads,
        cache_type=placement.cache_type,
        gpu_layers=placement.gpu_layers,
        cpu_experts=placement.cpu_experts,
        purpose=link.purpose,
        speculation=placement.speculation,
        adapters=link.file.adapters_in_worker,
        projector=link.file.projector_in_worker,
    )


async def _expect_hello(link: WorkerLink) -> Hello:
    hello = await _receive_within(link, link.patience.hello)
    if isinstance(hello, NotConfined):
        raise ModelFailedToLoad(
            f"The worker of {link.model} cannot be confined: {shown(hello.layer)} is missing "
            f"({shown(hello.reason)}). "
            # Not a hint: whoever waits is told the message only.
            "Have the kernel, container or unit offer it, or set worker.sandbox_required to false.",
        )
    if not isinstance(hello, Hello):
        raise WorkerDied(f"Its first word was {type(hello).__name__}, not Hello.")
    if hello.version != PROTOCOL_VERSION:
        raise ModelFailedToLoad(
            f"The worker speaks protocol {hello.version}, the daemon {PROTOCOL_VERSION}.",
            hint="The daemon has been upgraded under way: restart it.",
        )
    return hello


async def _expect_loaded(
    link: WorkerLink, placement: Placement, on_progress: Callable[[float], None]
) -> Loaded:
    while True:
        match await _receive_within(link, link.patience.load_silence):
            case Loaded() as loaded if _is_within(placement, loaded):
                return loaded
            case LoadFailed() as failure:
                raise _failure(link, failure)
            case Progress(fraction=fraction) if 0 <= fraction <= 1:
                on_progress(fraction)
            case Heartbeat():
                pass
            case unexpected:
                raise WorkerDied(f"It sent {shown(repr(unexpected))} while loading.")


def _is_within(placement: Placement, loaded: Loaded) -> bool:
    return (
        0 < loaded.context_tokens <= placement.context_tokens
        and 0 < loaded.slots <= placement.slots
    )


def _memory(placement: Placement, loaded: Loaded) -> dict[DeviceId, Bytes]:
    """Of the devices it was placed on; what it says of others is no use to anybody."""
    sizes = {RAM: loaded.memory_bytes, **dict(zip(placement.gpus, loaded.gpu_bytes, strict=False))}
    return {device: Bytes(size) for device, size in sizes.items() if size}


async def _receive_within(link: WorkerLink, limit: Seconds) -> FromWorker:
    try:
        async with link.timers.timeout_at(later(link.timers.now(), limit)):
            message = await link.channel.receive()
    except TimeoutError as error:
        link.process.kill()
        raise WorkerDied(f"It gave no sign of life for {limit:g} s.") from error
    if message is None:
        ending = await link.ended()
        if ending.out_of_memory:
            raise NoRoom(f"The worker of {link.model} ended while loading. {ending}")
        raise WorkerDied(str(ending))
    return message
