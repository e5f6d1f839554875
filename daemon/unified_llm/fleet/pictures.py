"""What a picture has to be before a worker decodes it: of a known format, sound and not too large.

A few bytes can stand for any number of pixels, so it is known what will come out before anything
is decoded in earnest.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from unified_llm.domain.chat import Message
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.images import Image, ImageFormat
from unified_llm.fleet.jpeg import count_scans, parse_jpeg_size
from unified_llm.fleet.png import ensure_as_its_head_says, parse_png_head

MAX_PIXELS: Final = 2**24
"""16.8 million, with which a worker was seen to take 322 MiB for an interlaced PNG of 64 bits a
pixel, 240 MiB for a progressive JPEG and 96 MiB for a plain PNG, until they are made smaller."""

MAX_SIDE: Final = 16_384

MAX_STEPS_OF_ONE: Final = 2**27
"""Of one picture: 8 scans of the largest. Nothing interrupts its decoding, and whoever cancels
meanwhile is owed an end within five seconds."""

MAX_STEPS: Final = 2**29
"""Pixels of a request, each counted once for every scan: as many as 32 of the largest pictures
have in one scan. Of a progressive JPEG made for it, twice as many were seen to take 21 s."""


async def ensure_readable(messages: Sequence[Message]) -> None:
    """Raise InvalidRequest unless a worker may be shown all the pictures.

    In a thread, picture by picture: whoever is cancelled leaves no more than one behind.
    """
    steps = 0
    for index, message in enumerate(messages):
        where = f"messages[{index}].content"
        for image in message.images:
            steps += await asyncio.to_thread(_steps_of, image, where)
            if steps > MAX_STEPS:
                raise InvalidRequest(
                    f"The images up to {where} have {steps} pixels, counted once for each scan; "
                    f"the most is {MAX_STEPS}.",
                    hint="Make them smaller, or write them anew as baseline JPEG.",
                    parameter=where,
                )


def _steps_of(image: Image, where: str) -> int:
    """Pixels times scans. Raises InvalidRequest unless the picture may be shown."""
    if image.format is ImageFormat.PNG:
        head = parse_png_head(image.data, where)
        _ensure_size(head.width, head.height, where)
        ensure_as_its_head_says(image.data, head, where)
        return head.width * head.height
    if image.format is ImageFormat.JPEG:
        width, height = parse_jpeg_size(image.data, where)
        _ensure_size(width, height, where)
        return _ensure_soon_decoded(width * height * count_scans(image.data, where), where)
    raise InvalidRequest(
        f"An image in {where} is {image.format.value}; models of this machine see PNG and JPEG.",
        parameter=where,
    )


def _ensure_soon_decoded(steps: int, where: str) -> int:
    if steps <= MAX_STEPS_OF_ONE:
        return steps
    raise InvalidRequest(
        f"An image in {where} has {steps} pixels, counted once for each scan; the most is "
        f"{MAX_STEPS_OF_ONE}.",
        hint="Make it smaller, or write it anew as baseline JPEG.",
        parameter=where,
    )


def _ensure_size(width: int, height: int, where: str) -> None:
    if width and height and max(width, height) <= MAX_SIDE and width * height <= MAX_PIXELS:
        return
    raise InvalidRequest(
        f"An image in {where} has {width} x {height} pixels; it has to have at least 1 x 1, at "
        f"most {MAX_SIDE} on a side and {MAX_PIXELS} in all.",
        hint="Models look at it with some 2,000 pixels a side at most.",
        parameter=where,
    )
