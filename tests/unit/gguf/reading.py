"""What becomes of bytes that claim to be a model."""

import pytest

from tests.unit.gguf.writing import BytesSource
from unified_llm.gguf.header import ModelHeader, read_header
from unified_llm.gguf.reader import NotAModel


def header_of(content: bytes) -> ModelHeader:
    """The header in `content`."""
    return read_header(BytesSource(content), len(content))


def refusal_of(content: bytes) -> str:
    """The sentence with which `content` is refused."""
    with pytest.raises(NotAModel) as caught:
        header_of(content)
    return str(caught.value)
