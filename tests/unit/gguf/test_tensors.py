"""gguf.tensors: through whole files, and against the library that will read the same files."""

import ctypes
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.gguf.reading import refusal_of
from tests.unit.gguf.writing import ModelFile, Tensor
from unified_llm.gguf.tensors import TENSOR_TYPES


def _ggml() -> ctypes.CDLL:
    """The library inside the llama_cpp package, which itself is not imported."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    library = ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libggml-base.so"))
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    return library


@pytest.mark.slow
def test_the_table_of_types_is_that_of_the_pinned_llama_cpp() -> None:
    library = _ggml()
    for code, (name, items, size) in TENSOR_TYPES.items():
        assert library.ggml_type_name(code).decode().upper() == name
        assert library.ggml_blck_size(code) == items
        assert library.ggml_type_size(code) == size


M = ModelFile()
T = Tensor("a", (32,))

WRONG: dict[str, tuple[bytes, str]] = {
    "a tensor without a name": (replace(M, tensors=(Tensor("", (1,)),)).packed(), "is empty"),
    "a tensor name of 64 bytes": (
        replace(M, tensors=(Tensor("x" * 64, (1,)),)).packed(),
        "at most 63",
    ),
    "a tensor twice": (replace(M, tensors=(T, T)).packed(), "there twice"),
    "no dimensions": (replace(M, tensors=(Tensor("a", ()),)).packed(), "0 dimensions"),
    "five dimensions": (replace(M, tensors=(Tensor("a", (1,) * 5),)).packed(), "5 dimensions"),
    "a dimension of 0": (replace(M, tensors=(Tensor("a", (0,)),)).packed(), "dimension of 0"),
    "a dimension of 2^64-1": (
        replace(M, tensors=(Tensor("a", (2**64 - 1,)),)).packed(),
        "dimension of 18446744073709551615",
    ),
    "a product of 2^80": (
        replace(M, tensors=(Tensor("a", (2**40, 2**40)),)).packed(),
        f"takes {4 * 2**80} bytes",
    ),
    "an unknown type": (replace(M, tensors=(Tensor("a", (32,), 4),)).packed(), "type 4"),
    "a row that is no block": (
        replace(M, tensors=(Tensor("a", (33,), 2),)).packed(),
        "multiple of 32",
    ),
    "overlap": (replace(M, tensors=(T, Tensor("b", (32,), 0, 32))).packed(), "not 128"),
    "a gap": (replace(M, tensors=(Tensor("a", (32,), 0, 32),)).packed(), "offset 32, not 0"),
    "an offset of 2^64-32": (
        replace(M, tensors=(T, Tensor("b", (32,), 0, 2**64 - 32))).packed(),
        "offset 18446744073709551584",
    ),
    "one byte short": (replace(M, missing_bytes=1).packed(), "b'blk.0.attn_q.weight' would end"),
    "31 bytes short": (replace(M, missing_bytes=31).packed(), "b'blk.0.attn_q.weight' would end"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_tensor_table_is_refused_with_the_reason(name: str) -> None:
    content, reason = WRONG[name]
    assert reason in refusal_of(content)
