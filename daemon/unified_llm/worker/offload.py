"""A plan in llama.cpp's terms: which layers go to which GPU, and in what the cache is kept."""

import ctypes
from typing import Any, Final

from unified_llm.domain.errors import GpuUnusable, ModelFailedToLoad
from unified_llm.worker.bindings import libggml, native
from unified_llm.worker.protocol import Load

_DEVICE_TYPE_GPU: Final = 1  # enum ggml_backend_dev_type


class _BufferOverride(ctypes.Structure):
    """llama_model_tensor_buft_override of llama.h; the list ends with one without a pattern."""

    _fields_ = (  # type: ignore[mutable-override]
        ("pattern", ctypes.c_char_p),
        ("buffer_type", ctypes.c_void_p),
    )


libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
libggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
libggml.ggml_backend_dev_type.restype = ctypes.c_int
libggml.ggml_backend_cpu_buffer_type.restype = ctypes.c_void_p


def cache_type_number(name: str) -> int:
    """What llama.cpp calls `f16` and the like. Raises ModelFailedToLoad."""
    number = getattr(native, f"GGML_TYPE_{name.upper()}", None)
    if number is None:
        raise ModelFailedToLoad(f"llama.cpp knows no cache type {name[:40]!r}.")
    return int(number)


def _count_gpus() -> int:
    """GPUs that this build of llama.cpp sees, integrated ones left out as it does itself."""
    devices = (libggml.ggml_backend_dev_get(i) for i in range(libggml.ggml_backend_dev_count()))
    return sum(libggml.ggml_backend_dev_type(device) == _DEVICE_TYPE_GPU for device in devices)


def place_layers(params: Any, load: Load) -> tuple[Any, ...]:
    """Put the layers where the load says; what is returned must live until the model is read.

    llama.cpp counts the output as one more layer, which is the last, and gives layer i of those on
    GPUs to the first one whose share of `tensor_split`, summed up, is above i (`load_tensors`).
    Raises GpuUnusable.
    """
    if not any(load.gpu_layers):
        return ()
    seen = _count_gpus()
    if seen < len(load.gpu_layers):
        raise GpuUnusable(
            f"The machine has {len(load.gpu_layers)} GPUs; this build of the engine sees {seen}.",
            hint="Install a llama-cpp-python that was built for them.",
        )
    last = max(index for index, count in enumerate(load.gpu_layers) if count)
    split = (ctypes.c_float * native.llama_max_devices())()
    for index, count in enumerate(load.gpu_layers):
        split[index] = count + (index == last)
    params.n_gpu_layers = sum(load.gpu_layers) + 1
    params.split_mode = native.LLAMA_SPLIT_MODE_LAYER
    params.tensor_split = split
    overrides = (_BufferOverride * 2)()
    if load.cpu_experts:
        layers = "|".join(map(str, range(load.cpu_experts)))
        overrides[0].pattern = rf"^blk\.({layers})\.ffn_.*_exps".encode()
        overrides[0].buffer_type = libggml.ggml_backend_cpu_buffer_type()
        params.tensor_buft_overrides = ctypes.addressof(overrides)
    return split, overrides
