"""Models in several files: which part a file is, and what the parts of a model are called.

Names are those of llama.cpp's `gguf-split` (`llama_split_path`), and are derived here: a file names
no other file. Source of the keys: the same, `src/llama-model-loader.cpp`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from unified_llm.gguf.metadata import Metadata, Scalar
from unified_llm.gguf.reader import NotAModel
from unified_llm.gguf.tensors import TensorInfo

# Each is a descriptor of the worker's. The largest models there are have some forty parts.
MAX_PARTS: Final = 128

_NAME: Final = re.compile(
    r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Place:
    """A file is part `number`, counted from 0, of `count`."""

    number: int
    count: int


@dataclass(frozen=True, slots=True)
class PartName:
    """What the name of a file says. stem: what the names of all parts begin with."""

    stem: str
    place: Place

    def siblings(self) -> tuple[str, ...]:
        """The names of all parts, in their order."""
        count = self.place.count
        return tuple(f"{self.stem}-{number + 1:05d}-of-{count:05d}.gguf" for number in range(count))


def parse_part_name(name: str) -> PartName | None:
    """What `name` says of a part; None if it is no part's, or one of more parts than there may be.

    A suffix in capitals is written small in the names of the others.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    number, count = int(found["number"]), int(found["count"])
    if not 1 <= number <= count or not 2 <= count <= MAX_PARTS:
        return None
    return PartName(found["stem"], Place(number - 1, count))


def require_place(metadata: Metadata, place: Place) -> None:
    """Raise NotAModel unless the file is the part it was taken for; a whole model is one of one."""
    count, number = _number(metadata, "count"), _number(metadata, "no")
    if max(count, 1) == 1 and place.count == 1:
        return
    if place.count == 1:
        raise NotAModel(
            f"The file is number {number + 1} of {count} parts of a split model, and its name does "
            "not say so."
        )
    if (number, count) != (place.number, place.count):
        raise NotAModel(
            f"The file says it is part {number + 1} of {count}, and its name says it is "
            f"{place.number + 1} of {place.count}."
        )


def require_whole(metadata: Metadata, tensors: Sequence[TensorInfo]) -> None:
    """Raise NotAModel unless the parts have together what the first of them announces, each once.

    metadata: of the first part.
    """
    announced = _number(metadata, "tensors.count")
    if announced != len(tensors):
        raise NotAModel(f"The parts have {len(tensors)} tensors; the first announces {announced}.")
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors):
        raise NotAModel(f"{len(tensors) - len(names)} tensors are in more than one part.")


def _number(metadata: Metadata, name: str) -> int:
    entry = metadata.entries.get(f"split.{name}")
    return entry.value if isinstance(entry, Scalar) and isinstance(entry.value, int) else 0
