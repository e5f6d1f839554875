import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import FinishReason
from unified_llm.fleet.vector_check import VectorCheck, numbers_of
from unified_llm.worker.protocol import MAX_NUMBERS, Delta, Done, Started, Vector

DONE = Done(id=1, reason=FinishReason.STOP, prompt_tokens=1, completion_tokens=0, cached_tokens=0)


def vector(*numbers: float) -> Vector:
    return Vector(id=1, numbers=struct.pack(f"<{len(numbers)}f", *numbers))


def test_as_many_vectors_as_texts_then_the_end() -> None:
    check = VectorCheck(2, None)
    frames = (Started(id=1, prompt_tokens=1, cached_tokens=0), vector(0.6, 0.8), vector(0, 1), DONE)
    assert [check.complaint(frame) for frame in frames] == [None] * 4


@pytest.mark.parametrize(
    ("dimensions", "lie"),
    [
        (None, vector(0, 2)),
        (None, vector(float("nan"), 1)),
        (None, vector(float("inf"))),
        (None, Vector(id=1, numbers=b"12345")),
        (3, vector(0, 1)),
        (None, Delta(id=1, text="x")),
        (None, DONE),
    ],
)
def test_what_can_not_be_the_answer_is_complained_of(
    dimensions: int | None, lie: Vector | Delta | Done
) -> None:
    assert VectorCheck(1, dimensions).complaint(lie) is not None


def test_vectors_are_all_as_long_as_the_first() -> None:
    check = VectorCheck(2, None)
    assert check.complaint(vector(0, 1)) is None
    assert check.complaint(vector(0, 0, 1)) is not None


def test_one_vector_more_is_too_many() -> None:
    check = VectorCheck(1, None)
    assert check.complaint(vector(1)) is None
    assert check.complaint(vector(1)) == "answered with more than 1 vectors"


def test_all_vectors_together_are_bounded() -> None:
    check = VectorCheck(MAX_NUMBERS // 2 + 1, None)
    assert check.complaint(vector(0, 1)) is not None


def test_a_score_is_any_one_number_that_is_finite() -> None:
    assert VectorCheck(1, 1, is_score=True).complaint(vector(-7.5)) is None
    assert VectorCheck(1, 1, is_score=True).complaint(vector(1, 0)) is not None
    assert VectorCheck(1, 1, is_score=True).complaint(vector(float("-inf"))) is not None


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_numbers_survive_the_way(numbers: list[float]) -> None:
    assert list(numbers_of(vector(*numbers).numbers)) == numbers


@given(st.binary(min_size=4, max_size=64))
def test_no_bytes_are_a_surprise(packed: bytes) -> None:
    VectorCheck(1, None).complaint(Vector(id=1, numbers=packed))
