"""Writes small GGUF files, right ones and wrong ones; independent of the reader under test."""

import struct
from dataclasses import dataclass, field, replace
from typing import Any

TYPES = {
    "u8": (0, "B"), "i8": (1, "b"), "u16": (2, "H"), "i16": (3, "h"), "u32": (4, "I"),
    "i32": (5, "i"), "f32": (6, "f"), "bool": (7, "B"), "string": (8, ""), "array": (9, ""),
    "u64": (10, "Q"), "i64": (11, "q"), "f64": (12, "d"),
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One key: `value` is packed as `type`; the items of an array as `items`."""

    key: str | bytes
    type: str
    value: Any
    items: str = ""

    def packed(self) -> bytes:
        return string(self.key) + struct.pack("<I", TYPES[self.type][0]) + self._value()

    def _value(self) -> bytes:
        if self.type != "array":
            return scalar(self.type, self.value)
        head = struct.pack("<IQ", TYPES[self.items][0], len(self.value))
        return head + b"".join(scalar(self.items, item) for item in self.value)


@dataclass(frozen=True)
class Tensor:
    """One F32 tensor unless told otherwise; `offset` None is the right one."""

    name: str | bytes
    dimensions: tuple[int, ...]
    type: int = 0
    offset: int | None = None


def scalar(type_: str, value: Any) -> bytes:
    if type_ == "string":
        return string(value)
    return struct.pack("<" + TYPES[type_][1], value)


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def _tokens() -> list[str]:
    letters = [chr(ord("a") + index) for index in range(26)]
    return ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256)), *letters]


def _entries() -> tuple[Entry, ...]:
    tokens = _tokens()
    types = [2, 3, 3, *[6] * 256, *[1] * 26]
    return (
        Entry("general.architecture", "string", "llama"),
        Entry("general.name", "string", "A small one"),
        Entry("general.basename", "string", "Small"),
        Entry("general.size_label", "string", "20K"),
        Entry("general.file_type", "u32", 0),
        Entry("general.alignment", "u32", 32),
        Entry("llama.block_count", "u32", 2),
        Entry("llama.context_length", "u32", 1024),
        Entry("llama.embedding_length", "u32", 32),
        Entry("llama.feed_forward_length", "u32", 64),
        Entry("llama.attention.head_count", "u32", 4),
        Entry("llama.attention.head_count_kv", "u32", 2),
        Entry("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5),
        Entry("llama.rope.dimension_count", "u32", 8),
        Entry("tokenizer.ggml.model", "string", "llama"),
        Entry("tokenizer.ggml.tokens", "array", tokens, "string"),
        Entry("tokenizer.ggml.scores", "array", [0.0] * len(tokens), "f32"),
        Entry("tokenizer.ggml.token_type", "array", types, "i32"),
        Entry("tokenizer.ggml.eos_token_id", "u32", 2),
        Entry("tokenizer.ggml.add_bos_token", "bool", 1),
        Entry("tokenizer.chat_template", "string", "{{ messages }}"),
    )


@dataclass(frozen=True)
class ModelFile:
    """A right file as it stands; change a part to get a wrong one."""

    entries: tuple[Entry, ...] = field(default_factory=_entries)
    tensors: tuple[Tensor, ...] = (
        Tensor("token_embd.weight", (32, 285)),
        Tensor("output_norm.weight", (33,)),
        Tensor("blk.0.attn_q.weight", (32, 32)),
    )
    magic: bytes = b"GGUF"
    version: int = 3
    alignment: int = 32
    key_count: int | None = None
    tensor_count: int | None = None
    missing_bytes: int = 0

    def having(self, *changed: Entry) -> "ModelFile":
        """The same with these entries, each in place of one of its key, or added."""
        by_key = {entry.key: entry for entry in (*self.entries, *changed)}
        return replace(self, entries=tuple(by_key.values()))

    def without(self, *keys: str) -> "ModelFile":
        """The same without these keys."""
        return replace(self, entries=tuple(e for e in self.entries if e.key not in keys))

    def packed(self) -> bytes:
        table, data_size = self._table()
        keys = len(self.entries) if self.key_count is None else self.key_count
        count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        head = self.magic + struct.pack("<IQQ", self.version, count, keys)
        head += b"".join(entry.packed() for entry in self.entries) + table
        head += bytes(-len(head) % self.alignment)
        return head + bytes(max(0, data_size - self.missing_bytes))

    def _table(self) -> tuple[bytes, int]:
        table, offset, end = b"", 0, 0
        for tensor in self.tensors:
            at = offset if tensor.offset is None else tensor.offset
            table += string(tensor.name) + struct.pack("<I", len(tensor.dimensions))
            table += b"".join(struct.pack("<Q", length) for length in tensor.dimensions)
            table += struct.pack("<IQ", tensor.type, at)
            size = 4
            for length in tensor.dimensions:
                size *= length
            size = min(size, 1 << 20)
            end = offset + size
            offset += -(-size // self.alignment) * self.alignment
        return table, end


class BytesSource:
    """A gguf ByteSource over bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_at(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]
