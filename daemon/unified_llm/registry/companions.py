"""Looks at the files that serve only together with a model: adapters and projectors.

Their headers are read at each look: there is no vocabulary in them, and the 420 tensors of an
adapter to all matrices of SmolLM2-135M take 12 ms.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from unified_llm.domain.models import Adapter, FileIdentity, Projector
from unified_llm.domain.profile import Purpose
from unified_llm.gguf.adapter import read_adapter
from unified_llm.gguf.header import ModelHeader
from unified_llm.gguf.projector import read_projector
from unified_llm.gguf.reader import ByteSource, NotAModel
from unified_llm.registry.files import DescriptorSource, file_key, identity_of, open_model
from unified_llm.settings.sections.models import AdapterSettings

Read = TypeVar("Read")


def inspect_adapters(
    entries: Mapping[str, AdapterSettings], base: ModelHeader | None
) -> tuple[Adapter, ...]:
    """The adapters of a model as their files are now. Never raises for what it finds.

    base: the model's header; None if that has a defect of its own.
    """
    return tuple(_inspect(name, entry, base) for name, entry in entries.items())


def _inspect(name: str, entry: AdapterSettings, base: ModelHeader | None) -> Adapter:
    try:
        identity, header = _read(entry.path, base, read_adapter)
    except NotAModel as error:
        return Adapter(name, entry.path, entry.scale, None, str(error))
    except FileNotFoundError:
        return Adapter(name, entry.path, entry.scale, None, "There is no such file.")
    except OSError as error:
        defect = f"The file cannot be read: {error.strerror}."
        return Adapter(name, entry.path, entry.scale, None, defect)
    return Adapter(
        name, entry.path, entry.scale, identity, None, header.layer_bytes, header.other_bytes
    )


def inspect_projector(path: Path, base: ModelHeader | None) -> Projector:
    """The projector of a model as its file is now. Never raises for what it finds."""
    try:
        identity, size = _read(path, base, read_projector)
    except NotAModel as error:
        return Projector(path, None, str(error))
    except FileNotFoundError:
        return Projector(path, None, "There is no such file.")
    except OSError as error:
        return Projector(path, None, f"The file cannot be read: {error.strerror}.")
    return Projector(path, identity, None, size)


def _read(
    path: Path, base: ModelHeader | None, read: Callable[[ByteSource, int, ModelHeader], Read]
) -> tuple[FileIdentity, Read]:
    if base is None:
        raise NotAModel("Its model can not be loaded.")
    if base.profile.purpose is not Purpose.CHAT:
        raise NotAModel("Only models that answer in text take it.")
    with open_model(path) as descriptor:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAModel("It is not a regular file.")
        found = read(DescriptorSource(descriptor), status.st_size, base)
        if file_key(os.fstat(descriptor)) != file_key(status):
            raise NotAModel("The file changed while it was read.")
    return identity_of(status), found
