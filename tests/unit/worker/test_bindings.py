"""What a worker imports of llama-cpp-python."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_bindings_come_without_the_packages_own_model_class() -> None:
    program = (
        "import sys; from unified_llm.worker import engine;"
        "print(engine.BUILD); print({'numpy', 'diskcache', 'llama_cpp.llama'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    build, imported = done.stdout.splitlines()
    assert build.startswith("llama-cpp-python 0.")
    assert imported == "set()"
