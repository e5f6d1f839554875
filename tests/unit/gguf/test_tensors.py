"""gguf.tensors against the library that will read the same files."""

import ctypes
import importlib.util
from pathlib import Path

import pytest

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
