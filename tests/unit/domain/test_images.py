"""Pictures, and where they stand in a message."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import Message, Role
from unified_llm.domain.images import Image, ImageFormat, format_of

GIF = b"GIF89a rest"


@pytest.mark.parametrize(
    ("begin", "found"),
    [
        (b"\x89PNG\r\n\x1a\n", ImageFormat.PNG),
        (b"\xff\xd8\xff\xe0", ImageFormat.JPEG),
        (b"GIF87a", ImageFormat.GIF),
        (b"GIF89a", ImageFormat.GIF),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", ImageFormat.WEBP),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", None),
        (b"%PDF-1.7", None),
        (b"<svg>", None),
        (b"", None),
    ],
)
def test_the_first_bytes_say_what_a_file_is(begin: bytes, found: ImageFormat | None) -> None:
    assert format_of(begin) is found


def test_a_data_url_holds_the_whole_file() -> None:
    head, _, encoded = Image(ImageFormat.GIF, GIF).data_url.partition(",")
    assert head == "data:image/gif;base64"
    assert base64.b64decode(encoded) == GIF


def test_nothing_of_a_picture_is_shown() -> None:
    assert "rest" not in repr(Image(ImageFormat.GIF, GIF))


@given(st.text(max_size=20), st.lists(st.integers(0, 20), max_size=4))
def test_parts_are_all_that_was_said_in_its_order(content: str, places: list[int]) -> None:
    images = tuple(
        Image(ImageFormat.GIF, GIF, min(place, len(content))) for place in sorted(places)
    )
    parts = list(Message(Role.USER, content, images=images).parts())
    assert "".join(part for part in parts if isinstance(part, str)) == content
    assert tuple(part for part in parts if isinstance(part, Image)) == images
    assert "" not in parts
    said = 0
    for part in parts:
        if isinstance(part, Image):
            assert part.place == said
        else:
            said += len(part)
