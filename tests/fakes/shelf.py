"""A shelf that only remembers what it was asked for. Stands for app.shelf.ModelShelf."""

import asyncio

from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.ports import ByteCount
from unified_llm.domain.units import Bytes
from unified_llm.downloads.local_import import SourceFile
from unified_llm.operations.library import ScanReport, Shelved, Verified

NEW = ModelId("new")


class FakeShelf:
    """fault: raised by whatever is done next. gate: adding waits for it."""

    def __init__(self) -> None:
        self.fault: UnifiedLlmError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.scans = 0
        self.added: list[tuple[ModelId, bytes]] = []
        self.removed: list[ModelId] = []

    async def rescan(self) -> ScanReport:
        """As in Shelf."""
        self._fail()
        self.scans += 1
        return ScanReport(models=2, added=1, removed=0, problems=3)

    async def check(self, source: SourceFile, name: ModelId | None) -> ModelId:
        """As in Shelf."""
        self._fail()
        return name or NEW

    async def add(self, source: SourceFile, model: ModelId, on_bytes: ByteCount) -> Shelved:
        """As in Shelf."""
        on_bytes(Bytes(4), Bytes(8))
        await self.gate.wait()
        self._fail()
        content = source.read_at(0, 100)
        self.added.append((model, content))
        return Shelved(model, Bytes(len(content)), "ab" * 32)

    async def verify(self, spec: ModelSpec, on_bytes: ByteCount) -> Verified:
        """As in Shelf."""
        self._fail()
        on_bytes(spec.size_bytes, spec.size_bytes)
        return Verified("cd" * 32, "ab" * 32)

    async def remove(self, spec: ModelSpec) -> None:
        """As in Shelf."""
        self._fail()
        self.removed.append(spec.id)

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault
