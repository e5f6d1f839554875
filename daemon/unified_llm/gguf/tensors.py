"""The tensor table of a GGUF header, and what each tensor type weighs."""

from dataclasses import dataclass
from math import prod
from typing import Final, NamedTuple

from unified_llm.gguf.reader import U32, U64, Cursor, NotAModel

MAX_TENSORS: Final = 65_536
MAX_NAME_BYTES: Final = 63  # GGML_MAX_NAME counts the terminating NUL
MAX_DIMENSIONS: Final = 4
MAX_DIMENSION: Final = 2**40
MAX_TENSOR_BYTES: Final = 2**62


class TensorType(NamedTuple):
    """A block of `items` numbers takes `size` bytes."""

    name: str
    items: int
    size: int


# Codes, blocks and sizes of the pinned llama.cpp; a test compares them with its library. A type
# that is not here is refused: its size, and so its end in the file, could not be checked.
TENSOR_TYPES: Final = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor. offset: bytes from the start of the data. dimensions: the fastest first."""

    name: bytes
    dimensions: tuple[int, ...]
    type: TensorType
    offset: int
    size: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.dimensions)


def parse_tensors(
    cursor: Cursor, count: int, alignment: int, file_size: int
) -> tuple[TensorInfo, ...]:
    """The tensor table that begins at `cursor`, every tensor proved to lie inside the file.

    Tensors must follow each other without gap or overlap, as llama.cpp demands too. Raises
    NotAModel.
    """
    found: list[TensorInfo] = []
    names: set[bytes] = set()
    offset = 0
    for index in range(count):
        tensor = _tensor(cursor, f"tensor {index + 1} of {count}")
        if tensor.name in names:
            raise NotAModel(f"The tensor {tensor.name!r} is there twice.")
        if tensor.offset != offset:
            raise NotAModel(f"Tensor {tensor.name!r} is at offset {tensor.offset}, not {offset}.")
        names.add(tensor.name)
        found.append(tensor)
        offset += aligned(tensor.size, alignment)
    _require_inside(found, aligned(cursor.position, alignment), file_size)
    return tuple(found)


def aligned(size: int, alignment: int) -> int:
    """`size` rounded up to a multiple of `alignment`."""
    return -(-size // alignment) * alignment


def _require_inside(tensors: list[TensorInfo], data_start: int, file_size: int) -> None:
    for tensor in tensors:
        if (end := data_start + tensor.offset + tensor.size) > file_size:
            raise NotAModel(
                f"Tensor {tensor.name!r} would end at byte {end} of a file of {file_size} bytes."
            )


def _tensor(cursor: Cursor, what: str) -> TensorInfo:
    name = cursor.string(MAX_NAME_BYTES, f"the name of {what}")
    if not name:
        raise NotAModel(f"The name of {what} is empty.")
    what = f"tensor {name!r}"
    rank = cursor.number(U32, what)
    if not 1 <= rank <= MAX_DIMENSIONS:
        raise NotAModel(f"{what} has {rank} dimensions; it must have 1 to {MAX_DIMENSIONS}.")
    dimensions = tuple(cursor.number(U64, what) for _ in range(rank))
    code = cursor.number(U32, what)
    offset = cursor.number(U64, what)
    type_ = TENSOR_TYPES.get(code)
    if type_ is None:
        raise NotAModel(f"{what} has the type {code}, which is not known here.")
    return TensorInfo(name, dimensions, type_, offset, _size(dimensions, type_, what))


def _size(dimensions: tuple[int, ...], type_: TensorType, what: str) -> int:
    for length in dimensions:
        if not 1 <= length <= MAX_DIMENSION:
            raise NotAModel(f"{what} has a dimension of {length}; the limit is {MAX_DIMENSION}.")
    if dimensions[0] % type_.items:
        raise NotAModel(
            f"{what} has rows of {dimensions[0]} numbers; "
            f"{type_.name} needs a multiple of {type_.items}."
        )
    size = prod(dimensions) // type_.items * type_.size
    if size >= MAX_TENSOR_BYTES:
        raise NotAModel(f"{what} takes {size} bytes; the limit is {MAX_TENSOR_BYTES}.")
    return size
