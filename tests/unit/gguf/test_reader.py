"""gguf.reader and its limits, through whole headers."""

import pytest

from tests.unit.gguf.reading import refusal_of
from tests.unit.gguf.writing import BytesSource, ModelFile, string
from unified_llm.gguf.header import MAX_HEADER_BYTES, read_header
from unified_llm.gguf.reader import NotAModel

SEED = ModelFile().packed()


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("kind", ["string", "strings", "numbers"])
def test_a_length_is_not_believed(length: int, kind: str) -> None:
    raw = length.to_bytes(8, "little")
    value = {
        "string": (8).to_bytes(4, "little") + raw,
        "strings": (9).to_bytes(4, "little") + (8).to_bytes(4, "little") + raw,
        "numbers": (9).to_bytes(4, "little") + (12).to_bytes(4, "little") + raw,
    }[kind]
    head = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") * 2
    refusal_of(head + string("key") + value + bytes(100))


class _Zeros:
    """A file of any size that takes no room on the disk, with a given beginning."""

    def __init__(self, beginning: bytes) -> None:
        self._beginning = beginning
        self.read_bytes = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return self._beginning[offset : offset + length].ljust(length, b"\0")


def test_a_sparse_file_costs_no_more_than_the_header_limit() -> None:
    """An array of 2 million empty strings, then keys without a name, in a file of 2^60 bytes."""
    head = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little")
    head += (65_536).to_bytes(8, "little") + string("key") + (9).to_bytes(4, "little")
    source = _Zeros(head + (0).to_bytes(4, "little") + (2**26).to_bytes(8, "little"))
    with pytest.raises(NotAModel):
        read_header(source, 2**60)
    assert source.read_bytes <= MAX_HEADER_BYTES


def test_strings_in_arrays_are_limited_in_all() -> None:
    head = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") * 2 + string("key")
    head += (9).to_bytes(4, "little") + (8).to_bytes(4, "little") + (2**23).to_bytes(8, "little")
    with pytest.raises(NotAModel, match="more than 4194304 strings"):
        read_header(_Zeros(head), 2**60)


def test_a_source_that_ends_early_is_a_refusal() -> None:
    with pytest.raises(NotAModel, match="ended at byte"):
        read_header(BytesSource(SEED[:1000]), len(SEED))
