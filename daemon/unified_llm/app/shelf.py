"""Takes model files in and out of the scanned directory, and the catalogue along."""

import asyncio
import logging
import threading
from pathlib import Path

from unified_llm.app.catalogue import CatalogueKeeper
from unified_llm.domain.errors import InvalidRequest, StoreUnavailable, UnavailableError
from unified_llm.domain.models import (
    IMPORTED_FOLDER,
    ModelId,
    ModelSpec,
    imported_file_name,
    is_model_id,
)
from unified_llm.domain.ports import ByteCount
from unified_llm.domain.units import Bytes
from unified_llm.downloads.local_import import (
    Imported,
    SourceFile,
    check_source,
    import_file,
    remove_file,
    sweep_partials,
)
from unified_llm.downloads.pruning import prune_folder
from unified_llm.operations.library import ScanReport, Shelved, Verified
from unified_llm.operations.models import Models
from unified_llm.registry.catalogue import scanned_id
from unified_llm.registry.digests import Digests, remember_digest
from unified_llm.registry.files import file_key
from unified_llm.registry.store import Store

_log = logging.getLogger(__name__)

# Of a file name, less what a partial file needs around it.
_MOST_NAME_BYTES = 255 - len("..partial")


class ModelShelf:
    """operations.library.Shelf over `models.directory`."""

    def __init__(self, keeper: CatalogueKeeper, models: Models, store: Store) -> None:
        self._keeper = keeper
        self._digests = Digests(store)
        self._models = models
        self._store = store

    async def sweep(self) -> None:
        """Remove what an import that was cut off has left, and what nobody wants to keep."""
        settings = self._keeper.settings
        if settings.models.directory is None:
            return
        folder = settings.models.directory / IMPORTED_FOLDER
        await asyncio.to_thread(sweep_partials, folder)
        if settings.downloads.prune:
            declared = [Path(entry.path) for entry in settings.models.configured.values()]
            removed = await asyncio.to_thread(prune_folder, folder, declared)
            for path in removed:
                _log.info("%s was imported and is not declared: removed", path.name)
            if removed:
                await self._keeper.rescan()

    async def rescan(self) -> ScanReport:
        """As in Shelf."""
        return await self._keeper.rescan()

    async def check(self, source: SourceFile, name: ModelId | None) -> ModelId:
        """As in Shelf."""
        self._directory()
        header = await asyncio.to_thread(check_source, source)
        model = scanned_id(header, "") if name is None else name
        if model is None:
            raise InvalidRequest(
                "The header of the file gives no name.", hint="Give it one.", parameter="as"
            )
        self._ensure_free(model)
        return model

    async def add(self, source: SourceFile, model: ModelId, on_bytes: ByteCount) -> Shelved:
        """As in Shelf."""
        self._ensure_free(model)
        target = self._directory() / IMPORTED_FOLDER / imported_file_name(model)
        imported = await self._import(source, target, on_bytes)
        await self._keeper.rescan()
        await self._remember(imported)
        await self._keeper.relearn()
        return Shelved(model, imported.size_bytes, imported.digest)

    async def verify(self, spec: ModelSpec, on_bytes: ByteCount) -> Verified:
        """As in Shelf."""
        found = None
        if spec.identity is not None:
            try:
                counting = _in_this_loop(on_bytes)
                found = await self._digests.check(spec.path, spec.identity, counting)
            except OSError as error:
                raise StoreUnavailable(
                    f"The file of {spec.id} can not be read: {error.strerror}."
                ) from error
        if found is None:
            raise InvalidRequest(
                f"The file of {spec.id} is not there, or is being changed.", parameter="model"
            )
        verified = Verified(*found)
        if verified.remembered is None:
            await self._keeper.relearn()
        return verified

    async def remove(self, spec: ModelSpec) -> None:
        """As in Shelf."""
        files = [part.path for part in spec.parts] or [spec.path]
        # The first one last: without it the others are told of, and removed by asking again.
        for path in reversed(files):
            await asyncio.to_thread(remove_file, Path(path), self._directory())
        await self._keeper.rescan()

    async def _import(self, source: SourceFile, target: Path, on_bytes: ByteCount) -> Imported:
        """In a thread that is told to stop, and waited for: it uses the caller's descriptor."""
        loop, stop = asyncio.get_running_loop(), threading.Event()
        quota = self._keeper.settings.downloads.quota_bytes
        counting = _in_this_loop(on_bytes)
        copying = loop.run_in_executor(None, import_file, source, target, quota, counting, stop)
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([copying])
            # Too late to stop it: then the file is there, and it is in the catalogue.
            if copying.exception() is None:
                await self._keeper.rescan()
            raise

    async def _remember(self, imported: Imported) -> None:
        try:
            key = file_key(imported.path.stat())
            await self._store.write(lambda base: remember_digest(base, key, imported.digest))
        except (OSError, UnavailableError) as error:
            _log.warning("the digest of %s is not kept: %s", imported.path.name, error)

    def _directory(self) -> Path:
        directory = self._keeper.settings.models.directory
        if directory is None:
            raise InvalidRequest(
                "There is no directory for models.", hint="Set models.directory in the settings."
            )
        return directory

    def _ensure_free(self, model: ModelId) -> None:
        if not is_model_id(model) or len(imported_file_name(model)) > _MOST_NAME_BYTES:
            raise InvalidRequest(f"{model[:40]!r} can not be the name of a model.", parameter="as")
        if self._models.is_known(model):
            raise InvalidRequest(
                f"There is a model {model} already.",
                hint="Give the file another name.",
                parameter="as",
            )


def _in_this_loop(on_bytes: ByteCount) -> ByteCount:
    """Carries what a thread counts over to the loop that this is called in."""
    loop = asyncio.get_running_loop()

    def tell(done: Bytes, total: Bytes) -> None:
        loop.call_soon_threadsafe(on_bytes, done, total)

    return tell
