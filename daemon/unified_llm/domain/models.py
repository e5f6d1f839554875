"""What a model is called and what is known of it before it is loaded."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Final, NewType

from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.measurements import Figure
from unified_llm.domain.profile import ModelProfile, Purpose
from unified_llm.domain.units import Bytes, Seconds, Tokens

ModelId = NewType("ModelId", str)
"""A public model name; never a path. Models, aliases and routes share one namespace."""

DEFAULT_PRIORITY: Final = 50

MODEL_ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}"
ADAPTER_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
IMPORTED_FOLDER = "imported"
"""Folder of the scanned directory whose files are named by their ids."""

_MODEL_ID = re.compile(MODEL_ID_PATTERN)
_ADAPTER_NAME = re.compile(ADAPTER_NAME_PATTERN)


def is_model_id(text: str) -> bool:
    """Whether `text` may name a model: 1 to 128 characters of letters, digits and `._:/-`."""
    return _MODEL_ID.fullmatch(text) is not None


def is_adapter_name(text: str) -> bool:
    """Whether `text` may name an adapter: 1 to 64 characters of letters, digits and `._-`."""
    return _ADAPTER_NAME.fullmatch(text) is not None


def parse_model_id(text: str, *, parameter: str = "model") -> ModelId:
    """The id in untrusted `text`. Raises InvalidRequest, naming `parameter`."""
    if not is_model_id(text):
        shown = text[:40] + ("…" if len(text) > 40 else "")
        raise InvalidRequest(
            f"{shown!r} is not a model id.",
            hint="An id has 1 to 128 characters of A-Z a-z 0-9 . _ : / - and starts with a letter "
            "or digit.",
            parameter=parameter,
        )
    return ModelId(text)


def imported_file_name(model: ModelId) -> str:
    """The name of the file of a model that was taken in under this id.

    The id stands in the name and nowhere else, so that it outlasts any database.
    """
    return model.replace("/", "%2F") + ".gguf"


def imported_model_id(stem: str) -> str:
    """What a file of that name, without its suffix, was taken in under; it may be no id."""
    return stem.replace("%2F", "/")


class GpuUse(StrEnum):
    """Whether a model is computed on GPUs."""

    AUTO = "auto"  # as far as it fits there; what does not is told
    OFF = "off"
    REQUIRED = "required"  # rather not at all than in main memory


class Speculation(StrEnum):
    """How tokens are drafted, to be computed before it is known that they come next."""

    AUTO = "auto"  # in whatever way there is, where it measures faster
    OFF = "off"
    PROMPT_LOOKUP = "prompt-lookup"  # from what came before in the same sequence, always


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Tells whether a file is still the one that was checked.

    device, inode: as fstat gives them. modified_ns: nanoseconds since the epoch.
    """

    device: int
    inode: int
    size_bytes: Bytes
    modified_ns: int


@dataclass(frozen=True, slots=True)
class ModelPart:
    """One of the files of a model that is split."""

    path: PurePath
    identity: FileIdentity


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter of a model: what a request gets that asks for `<model>:<name>`.

    path: the GGUF file. It never leaves the daemon.
    scale: how strongly it is applied; 1 for as much as it was trained to.
    identity, defect: as in ModelSpec; one with a defect is not loaded with its model.
    layer_bytes: its tensors by the model's layers. other_bytes: those outside the layers.
    """

    name: str
    path: PurePath
    scale: float
    identity: FileIdentity | None
    defect: str | None
    layer_bytes: tuple[Bytes, ...] = ()
    other_bytes: Bytes = Bytes(0)

    @property
    def size_bytes(self) -> Bytes:
        """What it takes beside its model."""
        return Bytes(sum(self.layer_bytes) + self.other_bytes)


@dataclass(frozen=True, slots=True)
class Projector:
    """What makes a model see images (mmproj). path, identity, defect: as in ModelSpec."""

    path: PurePath
    identity: FileIdentity | None
    defect: str | None
    size_bytes: Bytes = Bytes(0)


def adapted_id(model: ModelId, adapter: str) -> ModelId:
    """The id by which `model` is asked with that adapter."""
    return ModelId(f"{model}:{adapter}")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as the catalogue knows it: where it is, how large, and how it shall be run.

    path: the GGUF file, the first one if it is split. It never leaves the daemon: callers know ids
        only.
    parts: all its files in their order if it is split; empty if it is one file.
    adapters: what it can be asked with; those that are sound are loaded with it.
    projector: what it sees images with; None for a model that reads text only.
    identity: the file whose header was checked, or all its parts as one; None if there is no such
        file, or it is not a model, and then `defect` says why and the model can not be loaded.
    architecture: `general.architecture` of the header; None if the header was not readable.
    context_tokens: size of the context of one conversation.
    slots: how many conversations are decoded at the same time.
    threads: CPU threads of the worker; None lets the worker take one per physical core it may use.
    keep_alive: idle time after which the model is unloaded; None keeps it until asked.
    pinned: never evicted to make room for another.
    source: `settings` or `scan`.
    profile: what decides its memory, adapters included; None if the model can not be loaded.
    cache_type: how keys and values are kept, by its name in planner.cache_types.
    minimum_context: down to which the context may be cut where memory is short; None if it may not.
    gpu: whether it may, must or must not be computed on GPUs.
    priority: 0 to 100; where memory is short, the lowest leaves first.
    speculation: whether and how tokens are drafted.
    figures: what loads of this file took, as far as it holds for the engine in use.
    digest: SHA-256 of the file in hexadecimal; None until it is computed, and of a split model.
        A spec is the same with other figures, and before its digest is known.
    """

    id: ModelId
    path: PurePath
    identity: FileIdentity | None
    defect: str | None
    size_bytes: Bytes
    architecture: str | None
    context_tokens: Tokens
    slots: int
    threads: int | None
    keep_alive: Seconds | None
    pinned: bool
    source: str
    profile: ModelProfile | None = None
    cache_type: str = "f16"
    minimum_context: Tokens | None = None
    gpu: GpuUse = GpuUse.AUTO
    priority: int = DEFAULT_PRIORITY
    parts: tuple[ModelPart, ...] = ()
    speculation: Speculation = Speculation.AUTO
    adapters: tuple[Adapter, ...] = ()
    projector: Projector | None = None
    figures: tuple[Figure, ...] = field(default=(), compare=False)
    digest: str | None = field(default=None, compare=False)

    @property
    def purpose(self) -> Purpose:
        """What the model is for; chat, if nothing is known of it."""
        return Purpose.CHAT if self.profile is None else self.profile.purpose

    @property
    def drafting(self) -> Speculation:
        """As `speculation`, but for models that can not: they take no token back, or make none."""
        is_recurrent = self.profile is not None and self.profile.is_recurrent
        is_able = self.purpose is Purpose.CHAT and not is_recurrent
        return self.speculation if is_able else Speculation.OFF

    @property
    def sound_adapters(self) -> tuple[Adapter, ...]:
        """Those that are loaded with it."""
        return tuple(each for each in self.adapters if each.defect is None)

    @property
    def sound_projector(self) -> Projector | None:
        """The one that is loaded with it."""
        return self.projector if self.projector and self.projector.defect is None else None

    @property
    def beside_bytes(self) -> Bytes:
        """What those take."""
        seeing = self.sound_projector.size_bytes if self.sound_projector else 0
        return Bytes(sum(each.size_bytes for each in self.sound_adapters) + seeing)
