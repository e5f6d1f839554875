"""The model file as it was checked, opened once for the worker, and those that go with it.

The bytes that were validated must be the bytes that are loaded (notes on check-then-use): the file
is opened here, compared with the identity the catalogue recorded, and reaches the worker only as an
inherited descriptor.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.models import Adapter, FileIdentity, ModelSpec, Projector
from unified_llm.domain.units import Bytes
from unified_llm.worker.protocol import AdapterFile

# O_NONBLOCK: opening a FIFO somebody put in the place of the model would wait for ever.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class ModelFile:
    """Open descriptors of a model's files that are the ones the catalogue knows.

    descriptors: of the model itself in its parts, then of each adapter that is loaded with it, then
    of its projector.
    """

    def __init__(self, spec: ModelSpec, descriptors: tuple[int, ...]) -> None:
        self._spec = spec
        self.descriptors = descriptors

    @property
    def paths_in_worker(self) -> tuple[str, ...]:
        """Where the worker that inherits the descriptors finds the model, in the order of parts."""
        return _paths_in_worker(self.descriptors[: len(self._spec.parts) or 1])

    @property
    def adapters_in_worker(self) -> tuple[AdapterFile, ...]:
        """The adapters, and where the worker finds them."""
        adapters = self._spec.sound_adapters
        first = len(self._spec.parts) or 1
        paths = _paths_in_worker(self.descriptors[first : first + len(adapters)])
        return tuple(
            AdapterFile(name=each.name, path=path, scale=each.scale)
            for each, path in zip(adapters, paths, strict=True)
        )

    @property
    def projector_in_worker(self) -> str | None:
        """Where the worker finds the projector, if there is one."""
        return _paths_in_worker(self.descriptors[-1:])[0] if self._spec.sound_projector else None

    def ensure_unchanged(self) -> None:
        """Raises ModelFailedToLoad unless the files are still the ones that were checked."""
        known: list[FileIdentity | None] = [part.identity for part in self._spec.parts]
        known = known or [self._spec.identity]
        known += [each.identity for each in _companions(self._spec)]
        found = [os.fstat(each) for each in self.descriptors]
        is_regular = all(stat.S_ISREG(each.st_mode) for each in found)
        if not is_regular or list(map(_identity, found)) != known:
            raise ModelFailedToLoad(
                f"The file of {self._spec.id} is not the one that was checked: it has been "
                f"replaced or written to.",
                hint="Scan for models again, then load it.",
            )


def _companions(spec: ModelSpec) -> tuple[Adapter | Projector, ...]:
    return (*spec.sound_adapters, *((spec.sound_projector,) if spec.sound_projector else ()))


def _paths_in_worker(descriptors: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"/proc/self/fd/{each}" for each in descriptors)


def _identity(found: os.stat_result) -> FileIdentity:
    return FileIdentity(found.st_dev, found.st_ino, Bytes(found.st_size), found.st_mtime_ns)


def _open(spec: ModelSpec) -> tuple[int, ...]:
    with ExitStack() as undo:
        found = []
        paths = [part.path for part in spec.parts] or [spec.path]
        for path in [*paths, *(each.path for each in _companions(spec))]:
            # Model stores are full of symbolic links; what they lead to must not be one itself.
            descriptor = os.open(os.path.realpath(path, strict=True), _FLAGS)
            undo.callback(os.close, descriptor)
            found.append(descriptor)
        undo.pop_all()
    return tuple(found)


def _close_all(descriptors: tuple[int, ...]) -> None:
    for each in descriptors:
        os.close(each)


def _close_unclaimed(opening: asyncio.Future[tuple[int, ...]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _close_all(opening.result())


async def _open_in_thread(spec: ModelSpec) -> tuple[int, ...]:
    """Opening may wait for a disk to spin up or a server to answer."""
    loop = asyncio.get_running_loop()
    opening: asyncio.Future[tuple[int, ...]] | None = None
    try:
        # The first one here makes the executor, which imports, and so needs a descriptor itself.
        opening = loop.run_in_executor(None, _open, spec)
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        if opening is not None:
            opening.add_done_callback(_close_unclaimed)
        raise
    except OSError as error:
        raise ModelFailedToLoad(
            f"The file of {spec.id} cannot be opened: {error.strerror or error}.",
            hint="Make it readable for the daemon, or scan for models again if it has moved.",
        ) from error


@asynccontextmanager
async def open_model_file(spec: ModelSpec) -> AsyncIterator[ModelFile]:
    """The file of `spec`, for reading. Raises ModelFailedToLoad if it is not what was checked."""
    if spec.identity is None:
        raise ModelFailedToLoad(f"{spec.id} cannot be loaded: {spec.defect or 'no such file'}.")
    descriptors = await _open_in_thread(spec)
    try:
        file = ModelFile(spec, descriptors)
        file.ensure_unchanged()
        yield file
    finally:
        _close_all(descriptors)
