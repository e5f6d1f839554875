"""Limits on pictures: how many, and how large their files are."""

from collections.abc import Sequence
from typing import Final

from unified_llm.domain.chat import Message
from unified_llm.domain.errors import InvalidRequest, TooLarge
from unified_llm.domain.units import Bytes, render_bytes

MAX_IMAGES: Final = 32
# Anthropic takes no larger one; others take more and make it smaller before they look.
MAX_IMAGE_BYTES: Final = Bytes(5 * 1024 * 1024)


def ensure_sane_images(messages: Sequence[Message]) -> None:
    """Raise InvalidRequest or TooLarge unless the images of a conversation are sane."""
    count = sum(len(message.images) for message in messages)
    if count > MAX_IMAGES:
        raise TooLarge(f"There are {count} images; the most is {MAX_IMAGES}.")
    for index, message in enumerate(messages):
        _check(message, f"messages[{index}].content")


def _check(message: Message, where: str) -> None:
    for image in message.images:
        if len(image.data) > MAX_IMAGE_BYTES:
            raise TooLarge(
                f"An image in {where} has {render_bytes(len(image.data))}; the most is "
                f"{render_bytes(MAX_IMAGE_BYTES)}.",
                hint="Make it smaller; models look at it with some 2,000 pixels a side at most.",
            )
    places = [image.place for image in message.images]
    if places != sorted(places) or not all(0 <= each <= len(message.content) for each in places):
        raise InvalidRequest("The images are not in their order.", parameter=where)
