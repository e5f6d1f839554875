"""What llama.cpp really allocates for one model: run as a child that ends with its memory.

`python -m tests.bench.allocation '{"path": …, "context": …, "slots": …}'` prints the bytes of each
kind of buffer as JSON. The context is made as `worker.engine` makes it; the figures are read from
llama.cpp's own log, as `worker.native_log` does, but kept apart by kind.
"""

import ctypes
import json
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_TYPES = {"f16": 1, "q4_0": 2, "q8_0": 8}  # GGML_TYPE_*
_BUFFER = re.compile(r"(model|KV|RS|compute|output) buffer size = +(\d+\.\d+) MiB")
_MIB = 1024 * 1024
_STEP_TOKENS = 512
_LIMIT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Case:
    """One way to run a model. context: tokens of one slot."""

    context: int
    slots: int
    cache_type: str = "f16"
    whole_windows: bool = False

    def __str__(self) -> str:
        windows = " whole windows" if self.whole_windows else ""
        return f"{self.context} x {self.slots} {self.cache_type}{windows}"


def measure_allocation(path: Path, case: Case) -> dict[str, int]:
    """Bytes by kind of buffer (model, KV, RS, compute, output), allocated in a child process."""
    question = json.dumps({"path": str(path), **asdict(case)})
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.allocation", question],
        capture_output=True,
        text=True,
        timeout=_LIMIT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{path.name}, {case}: {done.stderr[-2000:]}")
    found: dict[str, int] = json.loads(done.stdout)
    return found


def main() -> None:
    asked = json.loads(sys.argv[1])
    path = asked.pop("path")
    text = _load(path, Case(**asked))
    sizes: dict[str, int] = defaultdict(int)
    for kind, size in _BUFFER.findall(text):
        sizes[kind] += round(float(size) * _MIB)
    print(json.dumps(sizes))


def _load(path: str, case: Case) -> str:
    """Everything llama.cpp says while it loads."""
    from llama_cpp import llama_cpp as native

    pieces: list[str] = []

    @native.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(_level: int, text: bytes, _data: Any) -> None:
        pieces.append(text.decode(errors="replace"))

    native.llama_log_set(keep, ctypes.c_void_p(None))
    native.llama_backend_init()
    model_params = native.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = native.llama_model_load_from_file(path.encode(), model_params)
    if not model:
        raise SystemExit(f"llama.cpp refuses it: {''.join(pieces)[-1500:]}")
    params = native.llama_context_default_params()
    params.n_ctx = case.context * case.slots
    params.n_seq_max = case.slots
    params.n_batch = params.n_ubatch = max(_STEP_TOKENS, case.slots)
    params.n_outputs_max = case.slots
    params.kv_unified = False
    params.offload_kqv = params.op_offload = False
    params.type_k = params.type_v = _TYPES[case.cache_type]
    params.swa_full = case.whole_windows
    if not native.llama_init_from_model(model, params):
        raise SystemExit(f"There is no context: {''.join(pieces)[-1500:]}")
    return "".join(pieces)


if __name__ == "__main__":
    main()
