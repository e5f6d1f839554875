"""The LoRA adapters of a loaded model, and which of them its context computes with.

Facts about llama.cpp that this file rests on (0.3.36, measured in tests/contracts):
- An adapter must be there before the context, whose graphs have no room for it otherwise.
- What is set holds for all sequences of a step, and setting another one has the context plan its
  graphs anew with the next step.
- The model frees its adapters.
"""

import ctypes
from typing import Any

from unified_llm.domain.errors import ModelFailedToLoad, NoRoom
from unified_llm.worker.bindings import native
from unified_llm.worker.native_log import NativeLog
from unified_llm.worker.offload import without_paths
from unified_llm.worker.protocol import Load


class LoraAdapters:
    """All of a load. Raises ModelFailedToLoad and NoRoom; the model frees what was opened."""

    def __init__(self, model: Any, load: Load, log: NativeLog) -> None:
        self._opened: dict[str, tuple[Any, float]] = {}
        self._in_use: str | None = None
        for each in load.adapters:
            adapter = native.llama_adapter_lora_init(model, each.path.encode())
            if not adapter:
                kind = NoRoom if log.is_out_of_memory else ModelFailedToLoad
                reason = without_paths(load, log.reason())
                raise kind(f"llama.cpp refuses the adapter {each.name}{reason}.")
            self._opened[each.name] = adapter, each.scale

    def use(self, context: Any, name: str | None) -> None:
        """Have `context` compute with that adapter; with none for None."""
        if name == self._in_use:
            return
        chosen = [] if name is None else [self._opened[name]]
        pointers = (native.llama_adapter_lora_p_ctypes * len(chosen))(*(each for each, _ in chosen))
        scales = (ctypes.c_float * len(chosen))(*(scale for _, scale in chosen))
        native.llama_set_adapters_lora(context, pointers, len(chosen), scales)
        self._in_use = name
