"""A plan in llama.cpp's terms: which layers go to which GPU, and what the context is like."""

import ctypes
from typing import Any, Final

from unified_llm.domain.errors import GpuUnusable, ModelFailedToLoad
from unified_llm.domain.models import Speculation
from unified_llm.worker.bindings import libggml, native
from unified_llm.worker.cores import allowed_physical_cores
from unified_llm.worker.draft_pace import MOST_DRAFTED
from unified_llm.worker.embedding import STEP_TEXTS
from unified_llm.worker.protocol import Load

_BATCH_TOKENS: Final = 512  # also one micro-batch, so that cancelling never waits for several
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


def open_model(load: Load, params: Any) -> Any:
    """llama.cpp's model, or None where it refuses the file or files."""
    if not load.more_paths:
        return native.llama_model_load_from_file(load.path.encode(), params)
    paths = [path.encode() for path in (load.path, *load.more_paths)]
    pointers = (ctypes.c_char_p * len(paths))(*paths)
    return native.llama_model_load_from_splits(pointers, len(paths), params)


def without_paths(load: Load, text: str) -> str:
    """What llama.cpp says, fit for those who do not know where the files are."""
    beside = (*(each.path for each in load.adapters), *([load.projector] if load.projector else []))
    for path in (load.path, *load.more_paths, *beside):
        text = text.replace(path, "the file")
    return text


def context_parameters(load: Load, context_tokens: int) -> Any:
    """Of a context with so many tokens for each of the load's slots."""
    threads = load.threads or allowed_physical_cores()
    params = native.llama_context_default_params()
    params.n_ctx = context_tokens * load.slots
    params.n_seq_max = load.slots
    params.n_batch = params.n_ubatch = batch_tokens(load)
    # A row of logits is as wide as the vocabulary: llama.cpp lays out one for each token of a step
    # unless it is told how many are ever asked for (docs/decisions/0029).
    params.n_outputs_max = load.slots + _drafted(load)
    params.n_threads = params.n_threads_batch = threads
    # One stream per sequence, as llama-server does: faster when no prefix is shared.
    params.kv_unified = False
    params.offload_kqv = bool(load.gpu_layers)
    # Weights in main memory are computed with there: the plan has no room for copies on a GPU.
    params.op_offload = False
    params.type_k = params.type_v = cache_type_number(load.cache_type)
    # Layers with a sliding window keep their window only (docs/decisions/0010).
    params.swa_full = False
    params.no_perf = True
    return params


def _drafted(load: Load) -> int:
    """Most tokens of a step whose logits are asked for beside the last one of each sequence."""
    return 0 if load.speculation is Speculation.OFF else MOST_DRAFTED


def batch_tokens(load: Load) -> int:
    """Most tokens of one step; each slot gets at least one."""
    return max(_BATCH_TOKENS, load.slots)


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


def encoder_parameters(load: Load, step_tokens: int) -> Any:
    """The context of a model that makes vectors, with so many tokens in a step."""
    params = context_parameters(load, step_tokens)
    params.n_ctx = params.n_batch = params.n_ubatch = step_tokens
    params.n_seq_max = STEP_TEXTS
    params.embeddings = True
    params.n_outputs_max = 0  # every token is asked for, to be pooled
    params.kv_unified = True  # the cells of a step serve few long texts or many short ones
    params.swa_full = True  # a text is seen at once, so there is nothing to be dropped
    return params
