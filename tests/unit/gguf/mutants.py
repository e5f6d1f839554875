"""Wrong GGUF files, drawn from a seed: damaged bytes, and files that are wrong on purpose.

Damage rarely gets past the first keys; what is wrong on purpose is written right around the fault.
"""

import random
from dataclasses import replace

from tests.unit.gguf.writing import TYPES, Entry, ModelFile, Tensor

SEED = ModelFile().packed()
HEADER_BYTES = SEED.index(b"blk.0.attn_q.weight") + 60
_NUMBERS = (
    0, 1, 2, 7, 31, 33, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40,
    2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
_FRACTIONS = (0.0, -1.0, 1.0, 1e-45, float("nan"), float("inf"))
_ARCHITECTURES = (
    "llama", "gpt2", "falcon", "phi3", "gemma2", "gemma3n", "qwen3moe", "mamba", "rwkv7", "t5",
    "bert", "plamo2", "deepseek2", "jamba", "command-r", "minicpm3", "clip", "zzz", "",
)  # fmt: skip
_TOKENIZERS = ("llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "none", "no_vocab", "xx", "")
_TOKENS = (
    "", "<0x-1>", "<0xZZ>", "<0x>", "<0x1FF>", b"\xff\xfe", b"\0", "a" * 5000, " ", "\n", "a",
)  # fmt: skip
_NAMES = ("", "x" * 63, "x" * 64, "x" * 70_000, b"\xff\0a", "blk.4294967295.attn_q.weight")


def mutant(rng: random.Random) -> bytes:
    """The next wrong file; some are right after all."""
    match rng.randrange(8):
        case 0 | 1:
            return _damaged(bytearray(SEED), rng)
        case 2:
            return SEED[: rng.randrange(len(SEED))]
        case _:
            return _wrong(rng)


def _damaged(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 4)):
        position = rng.randrange(HEADER_BYTES)
        width = rng.choice((1, 4, 8))
        value = rng.choice((*_NUMBERS, rng.randrange(2**64))) % 256**width
        match rng.randrange(3):
            case 0:
                content[position : position + width] = value.to_bytes(width, "little")
            case 1:
                del content[position : position + width]
            case _:
                content[position:position] = content[position : position + width]
    return bytes(content)


def _wrong(rng: random.Random) -> bytes:
    model = ModelFile()
    for _ in range(rng.choice((1, 1, 1, 2))):
        model = rng.choice(_FAULTS)(model, rng)
    return model.packed()


def _counts(model: ModelFile, rng: random.Random) -> ModelFile:
    if rng.random() < 0.5:
        return replace(model, key_count=rng.choice(_NUMBERS))
    return replace(model, tensor_count=rng.choice(_NUMBERS))


def _fixed_part(model: ModelFile, rng: random.Random) -> ModelFile:
    if rng.random() < 0.5:
        return replace(model, version=rng.choice((0, 1, 2, 4, 3 << 24, 2**32 - 1)))
    alignment = rng.choice((0, 1, 3, 7, 8, 64, 2**20, 2**31, 2**32 - 1))
    return model.having(Entry("general.alignment", "u32", alignment))


def _numbers(model: ModelFile, rng: random.Random) -> ModelFile:
    """A number that is in range for its type and for nothing else."""
    entry = rng.choice([each for each in model.entries if each.type in {"u32", "f32", "bool"}])
    if entry.type == "f32":
        return model.having(replace(entry, value=rng.choice(_FRACTIONS)))
    most = 255 if entry.type == "bool" else 2**32 - 1
    return model.having(replace(entry, value=rng.choice(_NUMBERS) & most))


def _types(model: ModelFile, rng: random.Random) -> ModelFile:
    key = rng.choice(model.entries).key
    return model.having(
        rng.choice(
            (
                Entry(key, "string", "x" * rng.choice((0, 1, 70_000))),
                Entry(key, "i8", -1),
                Entry(key, "array", [1, 2, 3], "u32"),
                Entry(key, "array", [], "string"),
                Entry(key, "f64", 1e308),
                Entry(key, "bool", 1),
                Entry(key, "u64", 2**63),
            )
        )
    )


def _keys(model: ModelFile, rng: random.Random) -> ModelFile:
    entry = rng.choice(model.entries)
    if rng.random() < 0.5:
        return replace(model, entries=tuple(each for each in model.entries if each is not entry))
    return replace(model, entries=(*model.entries, entry))


def _architecture(model: ModelFile, rng: random.Random) -> ModelFile:
    """Another architecture with keys of its own; the tensors stay as they are."""
    name = rng.choice(_ARCHITECTURES)
    entries = tuple(
        replace(each, key=str(each.key).replace("llama.", f"{name}.", 1))
        if str(each.key).startswith("llama.")
        else each
        for each in model.entries
    )
    return replace(model, entries=entries).having(Entry("general.architecture", "string", name))


def _vocabulary(model: ModelFile, rng: random.Random) -> ModelFile:
    entries = {entry.key: entry for entry in model.entries}
    match rng.randrange(4):
        case 0:
            tokenizer = Entry("tokenizer.ggml.model", "string", rng.choice(_TOKENIZERS))
            merges = rng.choice((["a b"], ["a"], [""], ["a b c"], ["x y"] * 5))
            return model.having(
                tokenizer, Entry("tokenizer.ggml.merges", "array", merges, "string")
            )
        case 1:
            name = rng.choice(("bos", "eos", "unknown", "padding", "eot", "mask", "fim_pre"))
            type_ = rng.choice(("u32", "i32"))
            value = rng.choice((0, 284, 285, 286, 2**31 - 1))
            return model.having(Entry(f"tokenizer.ggml.{name}_token_id", type_, value))
        case 2:
            key = "tokenizer.ggml." + rng.choice(("tokens", "scores", "token_type"))
            entry = entries.get(key)
            if entry is None or entry.type != "array":
                return model
            items: list[object] = rng.choice(
                (entry.value[:-1], entry.value[:1], [], entry.value * 2)
            )
            return model.having(replace(entry, value=items))
        case _:
            entry = entries.get("tokenizer.ggml.tokens")
            if entry is None or entry.items != "string" or not entry.value:
                return model
            tokens = list(entry.value)
            for _ in range(rng.choice((1, 3, 30))):
                tokens[rng.randrange(len(tokens))] = rng.choice(_TOKENS)
            return model.having(replace(entry, value=tokens))


def _tensors(model: ModelFile, rng: random.Random) -> ModelFile:
    if not model.tensors:
        return model
    tensors = list(model.tensors)
    index = rng.randrange(len(tensors))
    tensors[index] = _wrong_tensor(tensors[index], rng)
    match rng.randrange(4):
        case 0:
            tensors.append(rng.choice(tensors))
        case 1:
            del tensors[rng.randrange(len(tensors))]
    return replace(model, tensors=tuple(tensors))


def _wrong_tensor(tensor: Tensor, rng: random.Random) -> Tensor:
    match rng.randrange(4):
        case 0:
            count = rng.choice((0, 1, 2, 4, 5, 100))
            return replace(tensor, dimensions=tuple(rng.choice(_NUMBERS) for _ in range(count)))
        case 1:
            return replace(tensor, type=rng.choice((*range(45), 60, 255, 2**31, 2**32 - 1)))
        case 2:
            return replace(tensor, offset=rng.choice(_NUMBERS))
        case _:
            return replace(tensor, name=rng.choice((*_NAMES, "token_embd.weight")))


def _extras(model: ModelFile, rng: random.Random) -> ModelFile:
    """Keys that most files lack: parts, kinds of files, patterns of layers, templates."""
    type_ = rng.choice([each for each in TYPES if each not in {"array", "string"}])
    number = 1.5 if type_ in {"f32", "f64"} else 1
    return model.having(
        rng.choice(
            (
                Entry("split.count", type_, number),
                Entry("general.type", "string", rng.choice(("model", "mmproj", "adapter", "x"))),
                Entry("llama.attention.sliding_window", type_, number),
                Entry("llama.expert_count", type_, number),
                Entry("llama.nextn_predict_layers", type_, number),
                Entry("llama.rope.scaling.type", "string", rng.choice(("yarn", "none", "x"))),
                Entry("llama.attention.head_count", "array", [1] * rng.choice((1, 2, 3)), "u32"),
                Entry("tokenizer.chat_template", "string", rng.choice(("{%", "{{", b"\xff"))),
            )
        )
    )


_FAULTS = (
    _counts, _fixed_part, _numbers, _types, _keys, _architecture, _vocabulary, _tensors, _extras,
)  # fmt: skip
