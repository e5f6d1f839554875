"""Makes a real llama model of about 120 KB that llama.cpp loads in milliseconds and generates with.

The weights are drawn from a fixed seed, so the model babbles, but always the same. Only rows of
printable ASCII have weight in the output, so greedy answers are readable text and never end by
themselves. Layout: the GGUF specification, version 3, in the ggml repository (docs/gguf.md).
"""

import random
import struct
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

_U32, _I32, _F32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_EMBEDDING, _HEADS, _FEED_FORWARD = 32, 4, 64
_ALIGNMENT = 32
_WORDS = ("▁", "▁the", "▁a", "▁of")


class Defect(Enum):
    """What can be wrong with the file."""

    MAGIC = "does not begin with GGUF"
    TRUNCATED = "ends in the middle of the weights"
    NO_TENSOR = "lacks a tensor of its architecture"
    UNKNOWN_ARCHITECTURE = "names an architecture that does not exist"


def write_tiny_gguf(
    path: Path,
    *,
    context_tokens: int = 256,
    chat_template: str | None = None,
    special: Iterable[str] = (),
    user_defined: Iterable[str] = (),
    pooling: int | None = None,
    defect: Defect | None = None,
) -> Path:
    """Write the model and return its path.

    context_tokens: what it claims to be trained for. special, user_defined: texts of extra control
    tokens and user-defined tokens. pooling: its number in llama.cpp, for a model of vectors.
    """
    path.write_bytes(
        tiny_gguf(
            context_tokens=context_tokens,
            chat_template=chat_template,
            special=special,
            user_defined=user_defined,
            pooling=pooling,
            defect=defect,
        )
    )
    return path


def tiny_gguf(
    *,
    context_tokens: int = 256,
    chat_template: str | None = None,
    special: Iterable[str] = (),
    user_defined: Iterable[str] = (),
    pooling: int | None = None,
    defect: Defect | None = None,
) -> bytes:
    """The bytes of the model; see write_tiny_gguf."""
    architecture = "lama" if defect is Defect.UNKNOWN_ARCHITECTURE else "llama"
    tokens = _vocabulary(special, user_defined)
    settings = _settings(architecture, context_tokens, tokens, chat_template)
    if pooling is not None:
        settings.append(_key(f"{architecture}.pooling_type", _U32) + struct.pack("<I", pooling))
    tensors = _tensors(tokens)
    if defect is Defect.NO_TENSOR:
        del tensors["blk.0.ffn_up.weight"]
    content = _assemble(settings, tensors)
    if defect is Defect.MAGIC:
        return b"NOPE" + content[4:]
    return content[: len(content) // 2] if defect is Defect.TRUNCATED else content


def _vocabulary(special: Iterable[str], user_defined: Iterable[str]) -> list[tuple[str, int]]:
    return [
        ("<unk>", _UNKNOWN),
        ("<s>", _CONTROL),
        ("</s>", _CONTROL),
        *((f"<0x{value:02X}>", _BYTE) for value in range(256)),
        *((chr(value), _NORMAL) for value in range(33, 127)),
        *((word, _NORMAL) for word in _WORDS),
        *((text, _CONTROL) for text in special),
        *((text, _USER_DEFINED) for text in user_defined),
    ]


def _settings(
    architecture: str, context_tokens: int, tokens: list[tuple[str, int]], template: str | None
) -> list[bytes]:
    numbers = {
        f"{architecture}.context_length": context_tokens,
        f"{architecture}.embedding_length": _EMBEDDING,
        f"{architecture}.block_count": 1,
        f"{architecture}.feed_forward_length": _FEED_FORWARD,
        f"{architecture}.attention.head_count": _HEADS,
        f"{architecture}.attention.head_count_kv": _HEADS,
        f"{architecture}.rope.dimension_count": _EMBEDDING // _HEADS,
        f"{architecture}.vocab_size": len(tokens),
        "general.alignment": _ALIGNMENT,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    texts = {
        "general.architecture": architecture,
        "general.name": "tiny",
        "tokenizer.ggml.model": "llama",
    }
    if template is not None:
        texts["tokenizer.chat_template"] = template
    epsilon = f"{architecture}.attention.layer_norm_rms_epsilon"
    return [
        *(_key(key, _STRING) + _string(value) for key, value in texts.items()),
        *(_key(key, _U32) + struct.pack("<I", value) for key, value in numbers.items()),
        _key(epsilon, _F32) + struct.pack("<f", 1e-5),
        _array("tokenizer.ggml.tokens", _STRING, [_string(text) for text, _ in tokens]),
        _array(
            "tokenizer.ggml.scores",
            _F32,
            [struct.pack("<f", -float(rank)) for rank in range(len(tokens))],
        ),
        _array("tokenizer.ggml.token_type", _I32, [struct.pack("<i", kind) for _, kind in tokens]),
    ]


def _tensors(tokens: list[tuple[str, int]]) -> dict[str, tuple[tuple[int, ...], list[float]]]:
    draw = random.Random(1)

    def matrix(columns: int, rows: int) -> tuple[tuple[int, ...], list[float]]:
        return (columns, rows), [draw.gauss(0, 0.3) for _ in range(columns * rows)]

    norm = ((_EMBEDDING,), [1.0] * _EMBEDDING)
    square = (_EMBEDDING, _EMBEDDING)
    output = [
        weight if kind == _NORMAL else 0.0
        for _, kind in tokens
        for weight in (draw.gauss(0, 0.3) for _ in range(_EMBEDDING))
    ]
    return {
        "token_embd.weight": matrix(_EMBEDDING, len(tokens)),
        "output_norm.weight": norm,
        "output.weight": ((_EMBEDDING, len(tokens)), output),
        "blk.0.attn_norm.weight": norm,
        "blk.0.attn_q.weight": matrix(*square),
        "blk.0.attn_k.weight": matrix(*square),
        "blk.0.attn_v.weight": matrix(*square),
        "blk.0.attn_output.weight": matrix(*square),
        "blk.0.ffn_norm.weight": norm,
        "blk.0.ffn_gate.weight": matrix(_EMBEDDING, _FEED_FORWARD),
        "blk.0.ffn_down.weight": matrix(_FEED_FORWARD, _EMBEDDING),
        "blk.0.ffn_up.weight": matrix(_EMBEDDING, _FEED_FORWARD),
    }


def _assemble(
    settings: list[bytes], tensors: dict[str, tuple[tuple[int, ...], list[float]]]
) -> bytes:
    infos, data = b"", b""
    for name, (shape, weights) in tensors.items():
        dimensions = b"".join(struct.pack("<Q", size) for size in shape)
        infos += _string(name) + struct.pack("<I", len(shape)) + dimensions
        infos += struct.pack("<IQ", 0, len(data))  # type F32, offset
        data += _padded(struct.pack(f"<{len(weights)}f", *weights))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(settings))
    return _padded(header + b"".join(settings) + infos) + data


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % _ALIGNMENT)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _key(name: str, kind: int) -> bytes:
    return _string(name) + struct.pack("<I", kind)


def _array(name: str, kind: int, items: list[bytes]) -> bytes:
    return _key(name, _ARRAY) + struct.pack("<IQ", kind, len(items)) + b"".join(items)
