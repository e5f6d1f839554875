"""Asks llama.cpp itself which texts a grammar lets pass, by the bytes of a tiny vocabulary."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llama_cpp import llama_cpp as native

from tests.tiny_gguf import write_tiny_gguf
from unified_llm.worker.constraint import Constraint

_FIRST_BYTE = 3  # the tokens <0x00> to <0xFF> of the tiny model
_END = 2


class Judge:
    """Whether texts match grammars. Raises GrammarRefusedError."""

    def __init__(self, vocabulary: object) -> None:
        self._vocabulary = vocabulary

    def accepts(self, grammar: str, text: str) -> bool:
        """Whether a model could write `text` and end there."""
        constraint = Constraint(self._vocabulary, grammar)
        try:
            for byte in text.encode():
                if not constraint.allows(_FIRST_BYTE + byte):
                    return False
                constraint.accept(_FIRST_BYTE + byte)
            return constraint.allows(_END)
        finally:
            constraint.close()


@contextmanager
def open_judge(folder: Path) -> Iterator[Judge]:
    """A judge; `folder` is for the model file."""
    path = write_tiny_gguf(folder / "judge.gguf")
    params = native.llama_model_default_params()
    params.vocab_only = True
    model = native.llama_model_load_from_file(str(path).encode(), params)
    try:
        yield Judge(native.llama_model_get_vocab(model))
    finally:
        native.llama_model_free(model)
