"""llama.cpp's C functions as llama-cpp-python binds them, and nothing else of that package.

Its `__init__` also imports the class `Llama`, and for it numpy and a disk cache, which no worker
uses: 100 of the 285 ms of processor time until a worker could take a model (measured with 0.3.36).
So the package is entered among the imported modules without that, by its place alone.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from typing import Any

if "llama_cpp" not in sys.modules and (_spec := find_spec("llama_cpp")) is not None:
    sys.modules["llama_cpp"] = module_from_spec(_spec)

from llama_cpp import llama_cpp as native
from llama_cpp._ggml import libggml

__all__ = ["BINDINGS_VERSION", "libggml", "load_mtmd", "log_callback", "native"]

BINDINGS_VERSION = version("llama-cpp-python")


_kept: list[Any] = []  # native code calls them for as long as the process lives


def log_callback(take: Callable[[int, bytes], None]) -> Any:
    """What llama.cpp and libmtmd can give what they say to."""
    callback = native.llama_log_callback(lambda level, text, _: take(level, text))
    _kept.append(callback)
    return callback


def load_mtmd() -> Any:
    """libmtmd's C functions; imported only where a model sees, as it takes 15 ms."""
    from llama_cpp import mtmd_cpp

    return mtmd_cpp
