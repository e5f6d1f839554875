"""A PNG is measured by its head, and held to it before a worker inflates it."""

import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pictures import CHANNELS, KINDS, Kind, chunk, png_of, rows_of
from unified_llm.domain.errors import InvalidRequest
from unified_llm.fleet.png import MAX_CHUNKS, ensure_as_its_head_says, parse_png_head

WHERE = "messages[0].content"


def ensure(data: bytes) -> None:
    ensure_as_its_head_says(data, parse_png_head(data, WHERE), WHERE)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(KINDS),
    st.booleans(),
    st.integers(-1, 1),
)
def test_exactly_the_pixels_of_the_head_are_taken(
    width: int, height: int, colours: tuple[int, int], is_interlaced: bool, more: int
) -> None:
    kind = Kind(*colours, is_interlaced)
    rows = rows_of(width, height, kind)
    data = png_of(width, height, kind, idat=zlib.compress((rows + b"\0")[: len(rows) + more]))
    head = parse_png_head(data, WHERE)
    assert (head.width, head.height, head.inflated_bytes) == (width, height, len(rows))
    assert head.pixel_bits == kind.depth * CHANNELS[kind.colour]
    if more == 0:
        ensure(data)
        return
    with pytest.raises(InvalidRequest, match=f"{len(rows)} bytes of its pixels") as refusal:
        ensure(data)
    assert refusal.value.parameter == WHERE


def test_what_inflates_without_end_is_inflated_no_further_than_the_head() -> None:
    bomb = zlib.compress(bytes(64 * 2**20), 9)
    with pytest.raises(InvalidRequest, match="holds more than the 4 bytes of its pixels"):
        ensure(png_of(1, 1, idat=bomb))
    with pytest.raises(InvalidRequest, match="holds more than the 3146752 bytes"):
        ensure(png_of(1024, 1024, idat=bomb))


def test_a_large_picture_is_not_held_whole() -> None:
    data = png_of(2000, 2000, Kind(6), idat=zlib.compress(bytes(2000 * (1 + 4 * 2000))))
    tracemalloc.start()
    try:
        ensure(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2**20


def test_chunks_that_may_be_left_out_pass() -> None:
    ensure(png_of(9, 9, before=chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", b"")))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png_of(9, 9)[:30], "its 30 bytes do not begin with a head"),
        (png_of(9, 9).replace(b"IHDR", b"IDAT"), "do not begin with a head"),
        (png_of(9, 9)[:-12], "bytes end without an end"),
        (png_of(9, 9)[:-100], r"a chunk ends at byte \d+ of \d+"),
        (png_of(9, 9, Kind(2, 4), idat=b""), "no colour type 2 with 4 bits"),
        (png_of(9, 9, Kind(3, 16), idat=b""), "no colour type 3 with 16 bits"),
        (png_of(9, 9).replace(b"\x08\x02\0\0\0", b"\x08\x02\0\0\2"), "methods are 0, 0 and 2"),
        (png_of(9, 9).replace(b"\x08\x02\0\0\0", b"\x08\x02\0\1\0"), "methods are 0, 1 and 0"),
        (png_of(9, 9, idat=b"no zlib"), "do not inflate after 0 bytes"),
        (png_of(9, 9, idat=zlib.compress(bytes(252))[:-4]), "252 of the 252 bytes"),
        (png_of(9, 9, idat=b""), "0 of the 252 bytes"),
        # stb_image would read what follows without zlib's head, and so another stream than ours.
        (png_of(9, 9, before=chunk(b"CgBI", bytes(4))), "chunk at byte 33 is of a kind"),
        (png_of(9, 9, before=chunk(b"IHDR", bytes(13))), "chunk at byte 33 is of a kind"),
    ],
)
def test_what_is_not_sound_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=f"in messages.0..content is no sound PNG.*{reason}"):
        ensure(data)


def test_chunks_are_counted() -> None:
    with pytest.raises(InvalidRequest, match=f"more than {MAX_CHUNKS} chunks"):
        ensure(png_of(9, 9, before=chunk(b"IDAT", b"") * MAX_CHUNKS))


def test_a_chunk_can_not_point_behind_the_file() -> None:
    data = png_of(9, 9).replace(struct.pack(">I", 0) + b"IEND", b"\xff\xff\xff\xffIEND")
    with pytest.raises(InvalidRequest, match="a chunk ends at byte 4294967"):
        ensure(data)
