"""Model specifications of files that a test has made."""

from pathlib import Path

from tests.unit.fleet.asking import TINY
from unified_llm.domain.models import FileIdentity, ModelId, ModelSpec
from unified_llm.domain.units import Bytes, Tokens


def spec_of(path: Path, *, model: ModelId = TINY) -> ModelSpec:
    """The file as a scan of the directory would find it now."""
    found = path.stat()
    size = Bytes(found.st_size)
    return ModelSpec(
        id=model,
        path=path,
        identity=FileIdentity(found.st_dev, found.st_ino, size, found.st_mtime_ns),
        defect=None,
        size_bytes=size,
        architecture="llama",
        context_tokens=Tokens(512),
        slots=2,
        threads=1,
        keep_alive=None,
        pinned=False,
        source="settings",
    )
