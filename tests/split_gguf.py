"""Splits a GGUF file into several, as llama.cpp's `gguf-split` does."""

import struct
from pathlib import Path

from unified_llm.gguf.metadata import parse_metadata
from unified_llm.gguf.reader import Cursor
from unified_llm.gguf.tensors import TENSOR_TYPES, TensorInfo, aligned, parse_tensors

_FIXED = 24
_ALIGNMENT = 32
_U16, _I32 = 2, 5


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_at(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]


def split_gguf(whole: Path, folder: Path, stem: str, count: int) -> tuple[Path, ...]:
    """The parts of the file `whole`, whose tensors have the default alignment, in `folder`."""
    content = whole.read_bytes()
    tensors, keys = struct.unpack_from("<QQ", content, 8)
    cursor = Cursor(_Bytes(content), len(content))
    cursor.position = _FIXED
    parse_metadata(cursor, keys)
    raw_keys = content[_FIXED : cursor.position]
    table = parse_tensors(cursor, tensors, _ALIGNMENT, len(content))
    start = aligned(cursor.position, _ALIGNMENT)
    paths = tuple(folder / f"{stem}-{n + 1:05d}-of-{count:05d}.gguf" for n in range(count))
    for number, path in enumerate(paths):
        own = table[number::count]
        head = _split_keys(number, count, len(table))
        packed_keys = (raw_keys if number == 0 else b"") + head
        key_count = (keys if number == 0 else 0) + 3
        path.write_bytes(_packed(packed_keys, key_count, own, content, start))
    return paths


def _packed(
    keys: bytes, key_count: int, tensors: tuple[TensorInfo, ...], content: bytes, start: int
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), key_count) + keys
    data = b""
    for tensor in tensors:
        code = next(code for code, type_ in TENSOR_TYPES.items() if type_ == tensor.type)
        head += struct.pack("<Q", len(tensor.name)) + tensor.name
        head += struct.pack("<I", len(tensor.dimensions))
        head += struct.pack(f"<{len(tensor.dimensions)}Q", *tensor.dimensions)
        head += struct.pack("<IQ", code, len(data))
        at = start + tensor.offset
        data += content[at : at + tensor.size] + bytes(-tensor.size % _ALIGNMENT)
    return head + bytes(-len(head) % _ALIGNMENT) + data


def _split_keys(number: int, count: int, tensors: int) -> bytes:
    values = (("no", _U16, "H", number), ("count", _U16, "H", count))
    parts = [*values, ("tensors.count", _I32, "i", tensors)]
    return b"".join(
        struct.pack("<Q", len(f"split.{name}"))
        + f"split.{name}".encode()
        + struct.pack(f"<I{letter}", type_, value)
        for name, type_, letter, value in parts
    )
