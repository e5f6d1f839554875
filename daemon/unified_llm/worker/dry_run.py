"""Goes through a load without allocating it, and hears what llama.cpp would have taken.

With `no_alloc`, llama.cpp reads the header, lays the model out, makes a context and plans its
graphs, but takes memory for none of it. Measured with 0.3.36 on 19 architectures: caches, states,
compute and output buffers come out as in a real load; weights are not told, and need not be, as the
tensor table has them. The wording of the log belongs to that version; a test compares both.
"""

from typing import Final

from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.profile import Purpose
from unified_llm.worker.bindings import native
from unified_llm.worker.embedding import step_tokens_of
from unified_llm.worker.native_log import NativeLog
from unified_llm.worker.offload import (
    context_parameters,
    encoder_parameters,
    open_model,
    place_layers,
    without_paths,
)
from unified_llm.worker.protocol import Load, Rehearsed

# enum llama_load_mode: whatever maps or buffers the file makes room for it.
_LOAD_NOTHING: Final = 0


def rehearse(load: Load, log: NativeLog) -> Rehearsed:
    """What the load would take. Raises ModelFailedToLoad, GpuUnusable."""
    params = native.llama_model_default_params()
    params.n_gpu_layers = 0
    kept = place_layers(params, load)
    params.no_alloc = True
    params.load_mode = _LOAD_NOTHING
    model = open_model(load, params)
    del kept
    if not model:
        reason = without_paths(load, log.reason())
        raise ModelFailedToLoad(f"llama.cpp refuses the model file{reason}.")
    try:
        trained = native.llama_model_n_ctx_train(model)
        context_tokens = min(load.context_tokens, trained if trained > 0 else 2**31)
        if load.purpose is Purpose.CHAT:
            parameters = context_parameters(load, context_tokens)
        else:
            parameters = encoder_parameters(load, step_tokens_of(context_tokens))
        context = native.llama_init_from_model(model, parameters)
        if not context:
            raise ModelFailedToLoad(f"The context could not be laid out{log.reason()}.")
        native.llama_free(context)
    finally:
        native.llama_model_free(model)
    return Rehearsed(
        cache_bytes=log.cache_bytes,
        working_bytes=log.working_bytes,
        gpu_working_bytes=log.gpu_working_bytes,
    )
