"""Pictures are looked at only as far as their heads, before a worker sees them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mmproj import png
from unified_llm.domain.chat import Message, Role
from unified_llm.domain.errors import InvalidRequest, TooLarge
from unified_llm.domain.images import Image, ImageFormat
from unified_llm.fleet.pictures import MAX_PIXELS, ensure_readable, pixels_of


def jpeg(width: int, height: int, *before: bytes) -> bytes:
    """The head of a JPEG file. before: segments that come before its frame."""
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + b"".join(before) + frame


def ensure(data: bytes, format_: ImageFormat) -> None:
    ensure_readable([Message(Role.USER, "?", images=(Image(format_, data),))])


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def test_width_and_height_are_read_from_the_head() -> None:
    assert pixels_of(Image(ImageFormat.PNG, png(1, 20, 12))) == (20, 12)
    before = (segment(0xE0, b"JFIF\0"), b"\xff", segment(0xC4, b"\xff\xc0" * 9), b"\xff\x01")
    assert pixels_of(Image(ImageFormat.JPEG, jpeg(640, 480, *before))) == (640, 480)


def test_what_a_worker_can_decode_passes() -> None:
    ensure(png(1), ImageFormat.PNG)
    ensure(jpeg(4096, 4096), ImageFormat.JPEG)
    ensure_readable([Message(Role.USER, "no picture")])


@pytest.mark.parametrize(
    ("data", "format_", "reason"),
    [
        (b"GIF89a" + bytes(20), ImageFormat.GIF, "is image/gif; .* PNG and JPEG"),
        (b"RIFF0000WEBP", ImageFormat.WEBP, "is image/webp"),
        (png(1)[:20], ImageFormat.PNG, "broken"),
        (png(1, 20, 12).replace(b"IHDR", b"IDAT"), ImageFormat.PNG, "broken"),
        (png(1, 0, 12), ImageFormat.PNG, "broken"),
        (b"\xff\xd8\xff", ImageFormat.JPEG, "broken"),
        (jpeg(0, 12), ImageFormat.JPEG, "broken"),
        (jpeg(4, 4)[:8], ImageFormat.JPEG, "broken"),
        (b"\xff\xd8" + segment(0xE0, b"a") + b"x" * 20, ImageFormat.JPEG, "broken"),
    ],
)
def test_what_it_cannot_decode_is_refused_by_its_place(
    data: bytes, format_: ImageFormat, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        ensure(data, format_)
    assert refusal.value.parameter == "messages[0].content"


def test_a_few_bytes_of_many_pixels_are_refused() -> None:
    bomb = png(1, 1, 1).replace(struct.pack(">II", 1, 1), struct.pack(">II", 50_000, 50_000))
    with pytest.raises(TooLarge, match=f"50000 x 50000 pixels; the most is {MAX_PIXELS}"):
        ensure(bomb, ImageFormat.PNG)
    with pytest.raises(TooLarge, match="65535 x 65535"):
        ensure(jpeg(65_535, 65_535), ImageFormat.JPEG)


@given(st.sampled_from((ImageFormat.PNG, ImageFormat.JPEG)), st.binary(max_size=200))
def test_any_bytes_have_a_size_or_none(format_: ImageFormat, tail: bytes) -> None:
    start = b"\xff\xd8\xff" if format_ is ImageFormat.JPEG else b"\x89PNG\r\n\x1a\n"
    size = pixels_of(Image(format_, start + tail))
    assert size is None or all(0 <= each < 2**32 for each in size)
