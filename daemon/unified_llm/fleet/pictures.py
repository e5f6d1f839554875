"""What a picture has to be before a worker decodes it: of a known format, and not too large.

A few bytes can stand for any number of pixels, so their number is read from the file's head. Only
that is read here; sources: the PNG specification, and ITU-T T.81 for JPEG.
"""

from collections.abc import Sequence
from struct import unpack_from
from typing import Final

from unified_llm.domain.chat import Message
from unified_llm.domain.errors import InvalidRequest, TooLarge
from unified_llm.domain.images import Image, ImageFormat

MAX_PIXELS: Final = 2**24
"""16.8 million, which take 48 MiB in the worker while it makes them smaller."""

_IHDR: Final = b"\0\0\0\rIHDR"
_NOT_FRAMES: Final = frozenset({0xC4, 0xC8, 0xCC})  # tables, and an extension
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def ensure_readable(messages: Sequence[Message]) -> None:
    """Raise InvalidRequest or TooLarge unless a worker may be shown all the pictures."""
    for index, message in enumerate(messages):
        for image in message.images:
            _check(image, f"messages[{index}].content")


def _check(image: Image, where: str) -> None:
    if image.format not in (ImageFormat.PNG, ImageFormat.JPEG):
        raise InvalidRequest(
            f"An image in {where} is {image.format.value}; models of this machine see PNG and "
            "JPEG.",
            parameter=where,
        )
    size = pixels_of(image)
    if size is None or 0 in size:
        raise InvalidRequest(f"An image in {where} is broken.", parameter=where)
    width, height = size
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"An image in {where} has {width} x {height} pixels; the most is {MAX_PIXELS} in all.",
            hint="Make it smaller; models look at it with some 2,000 pixels a side at most.",
        )


def pixels_of(image: Image) -> tuple[int, int] | None:
    """Width and height, as the head of the file says; None if it does not."""
    data = image.data
    if image.format is ImageFormat.PNG:
        if len(data) < 24 or data[8:16] != _IHDR:
            return None
        width, height = unpack_from(">II", data, 16)
        return width, height
    return _pixels_of_jpeg(data)


def _pixels_of_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            if at + 9 > len(data):
                return None
            height, width = unpack_from(">HH", data, at + 5)
            return width, height
        (length,) = unpack_from(">H", data, at + 2)
        at += 2 + max(2, length)
    return None
