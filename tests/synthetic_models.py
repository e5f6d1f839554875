"""Models of many architectures that llama.cpp really loads, with weights that are all zero.

Mostly only the shapes matter: the data is a hole in the file, and 8 GiB of it cost a few pages.
Layouts: the `load_arch_tensors` of each architecture in llama.cpp's `src/models/`, read and not
copied; the file format: the GGUF specification, version 3.
"""

import os
import random
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Dimensions = tuple[int, ...]
Value = int | float | str | bool | Sequence[int] | Sequence[bool]

_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_UNKNOWN, _CONTROL, _NORMAL, _BYTE = 2, 3, 1, 6
_ALIGNMENT = 32
_TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34)}


@dataclass(frozen=True)
class SyntheticModel:
    """keys: without the architecture's prefix. matrices: the type of all but small tensors."""

    name: str
    architecture: str
    keys: dict[str, Value]
    tensors: dict[str, Dimensions]
    vocabulary: int = 4096
    matrices: str = "F16"
    kept_f32: frozenset[str] = field(default_factory=frozenset)

    def write(self, folder: Path) -> Path:
        """Write the file and return its path."""
        path = folder / f"{self.name}.gguf"
        table, size = self._table()
        entries = list(self._entries())
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(entries))
        head += b"".join(entries) + table
        head += bytes(-len(head) % _ALIGNMENT)
        with path.open("wb") as file:
            file.write(head)
            file.truncate(len(head) + size)
        return path

    def write_drawn(self, folder: Path) -> Path:
        """As `write`, with weights from a fixed seed, so that what is computed tells prompts apart.

        All matrices must be F32.
        """
        path = self.write(folder)
        _, size = self._table()
        draw = random.Random(1)
        weights = array("f", (draw.gauss(0, 0.1) for _ in range(size // 4)))
        with path.open("r+b") as file:
            file.seek(-size, os.SEEK_END)
            file.write(weights.tobytes())
        return path

    def _entries(self) -> Iterator[bytes]:
        yield _entry("general.architecture", self.architecture)
        for key, value in self.keys.items():
            yield _entry(f"{self.architecture}.{key}", value)
        yield from _tokenizer(self.vocabulary)

    def _table(self) -> tuple[bytes, int]:
        table, offset = b"", 0
        for name, dimensions in self.tensors.items():
            code, items, size = _TYPES[self._type(name, dimensions)]
            table += _string(name) + struct.pack("<I", len(dimensions))
            table += b"".join(struct.pack("<Q", length) for length in dimensions)
            table += struct.pack("<IQ", code, offset)
            count = 1
            for length in dimensions:
                count *= length
            offset += count // items * size
            offset += -offset % _ALIGNMENT
        return table, offset

    def _type(self, name: str, dimensions: Dimensions) -> str:
        is_small = len(dimensions) == 1 or any(part in name for part in self.kept_f32)
        return "F32" if is_small else self.matrices


def _entry(key: str, value: Value) -> bytes:
    return _string(key) + _value(value)


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    kind, shape = (_BOOL, "B") if isinstance(value[0], bool) else (_U32, "I")
    return struct.pack(f"<IIQ{len(value)}{shape}", _ARRAY, kind, len(value), *value)


def _tokenizer(size: int) -> Iterator[bytes]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    types = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256]
    tokens += [f"w{index}" for index in range(size - len(tokens))]
    types += [_NORMAL] * (size - len(types))
    yield _entry("tokenizer.ggml.model", "llama")
    strings = b"".join(_string(token) for token in tokens)
    yield _string("tokenizer.ggml.tokens") + struct.pack("<IIQ", _ARRAY, _STRING, size) + strings
    scores = struct.pack(f"<IIQ{size}f", _ARRAY, _F32, size, *[0.0] * size)
    yield _string("tokenizer.ggml.scores") + scores
    kinds = struct.pack(f"<IIQ{size}i", _ARRAY, _I32, size, *types)
    yield _string("tokenizer.ggml.token_type") + kinds
    yield _entry("tokenizer.ggml.bos_token_id", 1)
    yield _entry("tokenizer.ggml.eos_token_id", 2)
    yield _entry("tokenizer.ggml.token_type_count", 2)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
