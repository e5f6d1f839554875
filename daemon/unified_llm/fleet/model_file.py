"""The model file as it was checked, opened once for the worker.

The bytes that were validated must be the bytes that are loaded (notes on check-then-use): the file
is opened here, compared with the identity the catalogue recorded, and reaches the worker only as an
inherited descriptor.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.models import FileIdentity, ModelSpec
from unified_llm.domain.units import Bytes

# O_NONBLOCK: opening a FIFO somebody put in the place of the model would wait for ever.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class ModelFile:
    """An open descriptor of a model file that is the one the catalogue knows."""

    def __init__(self, spec: ModelSpec, descriptor: int) -> None:
        self._spec = spec
        self.descriptor = descriptor

    @property
    def path_in_worker(self) -> str:
        """Where the worker that inherits the descriptor finds the file."""
        return f"/proc/self/fd/{self.descriptor}"

    def ensure_unchanged(self) -> None:
        """Raises ModelFailedToLoad unless the file is still the one that was checked."""
        found = os.fstat(self.descriptor)
        if not stat.S_ISREG(found.st_mode) or _identity(found) != self._spec.identity:
            raise ModelFailedToLoad(
                f"The file of {self._spec.id} is not the one that was checked: it has been "
                f"replaced or written to.",
                hint="Scan for models again, then load it.",
            )


def _identity(found: os.stat_result) -> FileIdentity:
    return FileIdentity(found.st_dev, found.st_ino, Bytes(found.st_size), found.st_mtime_ns)


def _open(spec: ModelSpec) -> int:
    # Model stores are full of symbolic links; what they lead to must not be one itself.
    return os.open(os.path.realpath(spec.path, strict=True), _FLAGS)


def _close_unclaimed(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())


async def _open_in_thread(spec: ModelSpec) -> int:
    """Opening may wait for a disk to spin up or a server to answer."""
    loop = asyncio.get_running_loop()
    opening: asyncio.Future[int] | None = None
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
    descriptor = await _open_in_thread(spec)
    try:
        file = ModelFile(spec, descriptor)
        file.ensure_unchanged()
        yield file
    finally:
        os.close(descriptor)
