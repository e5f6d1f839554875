"""LiteLLM's proxy in a virtual environment of its own: a peer of the benchmark, and nothing else.

The version is one from before the poisoned ones of 2026.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.bench.peers import Peer, ensure_environment, free_port, open_peer

VERSION: Final = "1.80.0"
# As its documentation says of production; and no list of prices over the network at the start.
_ENVIRONMENT: Final = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def ensure_litellm() -> Path:
    """Its program, installed now if the cache does not have it."""
    folder = ensure_environment(f"litellm-{VERSION}", f"litellm[proxy]=={VERSION}")
    return folder / "bin" / "litellm"


@contextmanager
def open_litellm(upstream: str) -> Iterator[Peer]:
    """Run it with one worker, as the daemon has one, and the model `m` of the server at `upstream`.

    upstream: the URL of an OpenAI-compatible API.
    """
    model = {"model": "openai/m", "api_base": upstream, "api_key": "sk-none"}
    settings = {"model_list": [{"model_name": "m", "litellm_params": model}]}
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="litellm-") as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(json.dumps(settings))
        command = [
            *(str(ensure_litellm()), "--config", str(file), "--num_workers", "1"),
            *("--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
        ]
        with open_peer(command, port, "/health/liveliness", _ENVIRONMENT) as peer:
            yield peer
