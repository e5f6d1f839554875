"""Of a JPEG only the beginning is read, and its scans are counted."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pictures import jpeg_of, segment
from unified_llm.domain.errors import InvalidRequest
from unified_llm.fleet.jpeg import (
    HEAD_BYTES,
    MAX_SCANS,
    MAX_SEGMENTS,
    count_scans,
    parse_jpeg_size,
)

WHERE = "messages[3].content"
SEGMENTS = st.builds(
    segment, st.sampled_from((0xC4, 0xDB, 0xE0, 0xEF, 0xFE)), st.binary(max_size=30)
)
BETWEEN = st.one_of(SEGMENTS, st.sampled_from((b"\xff", b"\xff" * 9, b"\xff\x01")))


@given(st.integers(0, 65_535), st.integers(0, 65_535), st.lists(BETWEEN, max_size=20))
def test_width_and_height_are_read_from_the_frame(
    width: int, height: int, before: list[bytes]
) -> None:
    data = jpeg_of(8, 8, *before).replace(
        b"\x08\0\x08\0\x08\1\1", b"\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\1\1"
    )
    assert parse_jpeg_size(data, WHERE) == (width, height)


def test_no_frame_hides_behind_more_than_is_read() -> None:
    for fill in (b"\xff" * (HEAD_BYTES - 20), b"\xff\x01" * 200, segment(0xE1, bytes(65_000)) * 4):
        assert parse_jpeg_size(jpeg_of(8, 16, fill), WHERE) == (8, 16)
    for fill in (
        b"\xff" * 5 * 2**20,
        b"\xff\x01" * (MAX_SEGMENTS + 1),
        segment(0xE1, bytes(65_000)) * 5,
        segment(0xE1, b"") * (MAX_SEGMENTS + 1),
    ):
        with pytest.raises(InvalidRequest, match=f"{MAX_SEGMENTS} segments do not say its size"):
            parse_jpeg_size(jpeg_of(8, 16, fill), WHERE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xd8\xff", "first 3 bytes and 256 segments do not say"),
        (b"\xff\xd8" + b"\xff" * 100, "first 102 bytes and 256 segments do not say"),
        (jpeg_of(4, 4)[:8], "first 8 bytes"),
        (jpeg_of(4, 4, segment(0xE0, b"a") + b"x" * 20), "no marker at byte 7"),
        (jpeg_of(4, 4, b"\xff\xe0\0\1"), "at byte 2 has a length of 1"),
    ],
)
def test_what_is_not_sound_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(reason)) as refusal:
        parse_jpeg_size(data, WHERE)
    assert refusal.value.parameter == WHERE


def test_more_scans_than_anybody_writes_are_refused() -> None:
    for scans in (0, 1, MAX_SCANS):
        assert count_scans(jpeg_of(8, 8, scans=scans), WHERE) == scans
    with pytest.raises(InvalidRequest, match="has 3000 scans; the most is 64") as refusal:
        count_scans(jpeg_of(8, 8, scans=3000), WHERE)
    assert refusal.value.parameter == WHERE
