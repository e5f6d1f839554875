"""Pictures are checked before a worker sees them, and beside everything else that goes on."""

import asyncio
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pictures import KINDS, Kind, jpeg_of, png_of
from unified_llm.domain.chat import Message, Role
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.images import Image, ImageFormat
from unified_llm.fleet.pictures import MAX_PIXELS, MAX_SIDE, MAX_STEPS, ensure_readable

PICTURES = [
    *((ImageFormat.PNG, png_of(7, 9, Kind(*kind, odd))) for kind in KINDS for odd in (False, True)),
    (ImageFormat.JPEG, jpeg_of(20, 30)),
    (ImageFormat.JPEG, jpeg_of(20, 30, scans=3)),
]


def message(*pictures: tuple[ImageFormat, bytes]) -> Message:
    return Message(Role.USER, "?", images=tuple(Image(*each) for each in pictures))


def sized(width: int, height: int) -> bytes:
    """A PNG of one pixel that says it were so large."""
    return png_of(1, 1).replace(struct.pack(">II", 1, 1), struct.pack(">II", width, height))


async def test_what_a_worker_can_decode_passes() -> None:
    await ensure_readable([message(*PICTURES), Message(Role.USER, "no picture")])


@pytest.mark.parametrize(
    ("format_", "data", "reason"),
    [
        (ImageFormat.GIF, b"GIF89a" + bytes(20), "is image/gif; .* PNG and JPEG"),
        (ImageFormat.WEBP, b"RIFF0000WEBP", "is image/webp"),
        (ImageFormat.PNG, sized(0, 12), "has 0 x 12 pixels; it has to have at least 1 x 1"),
        (ImageFormat.JPEG, jpeg_of(12, 0), "has 12 x 0 pixels"),
        (ImageFormat.PNG, sized(50_000, 50_000), f"50000 x 50000 .* and {MAX_PIXELS} in all"),
        (ImageFormat.PNG, sized(4096, 4097), "4096 x 4097"),
        (ImageFormat.PNG, sized(16_385, 1), f"16385 x 1 pixels.* at most {MAX_SIDE} on a side"),
        (ImageFormat.JPEG, jpeg_of(1, 16_385), "1 x 16385 pixels"),
        (ImageFormat.PNG, sized(4096, 4096), "of the 50335744 bytes"),
        (ImageFormat.JPEG, jpeg_of(8, 8, scans=65), "65 scans"),
        (ImageFormat.JPEG, jpeg_of(2048, 2048, scans=33), f"{33 * 2**22} pixels, .* {2**27}"),
    ],
)
async def test_what_it_cannot_decode_is_refused_by_its_place(
    format_: ImageFormat, data: bytes, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"messages.2..content .*{reason}") as refusal:
        await ensure_readable(
            [message(), message(PICTURES[0]), message(PICTURES[0], (format_, data))]
        )
    assert refusal.value.parameter == "messages[2].content"


async def test_the_scans_of_all_pictures_are_counted_together() -> None:
    picture = (ImageFormat.JPEG, jpeg_of(2048, 2048, scans=32))
    await ensure_readable([message(picture, picture), message(picture, picture)])
    one_more = message((ImageFormat.PNG, png_of(2, 1)))
    with pytest.raises(InvalidRequest, match=f"{MAX_STEPS + 2} pixels.*most is {MAX_STEPS}") as no:
        await ensure_readable([message(*[picture] * 4), one_more])
    assert no.value.parameter == "messages[1].content"


@given(st.data())
def test_spoilt_pictures_are_refused_or_taken(data: st.DataObject) -> None:
    format_, picture = data.draw(st.sampled_from(PICTURES))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(picture)))
        gone = data.draw(st.integers(0, 4))
        picture = picture[:at] + data.draw(st.binary(max_size=6)) + picture[at + gone :]
    with suppress(InvalidRequest):
        asyncio.run(ensure_readable([message((format_, picture))]))
