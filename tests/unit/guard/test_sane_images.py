import pytest

from unified_llm.domain.chat import Message, Role
from unified_llm.domain.errors import InvalidRequest, RequestError, TooLarge
from unified_llm.domain.images import Image, ImageFormat
from unified_llm.guard.sane_images import MAX_IMAGE_BYTES, MAX_IMAGES, ensure_sane_images


def image(place: int = 0, size: int = 10) -> Image:
    return Image(ImageFormat.GIF, b"\0" * size, place)


def saying(content: str, *images: Image) -> Message:
    return Message(Role.USER, content, images=images)


def test_images_within_the_limits_pass() -> None:
    ensure_sane_images((saying("ab", image(), image(1), image(1), image(2)),) * (MAX_IMAGES // 4))
    ensure_sane_images((saying("", image(size=MAX_IMAGE_BYTES)),))


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ((saying("", image()),) * (MAX_IMAGES + 1), TooLarge),
        ((saying("", image(size=MAX_IMAGE_BYTES + 1)),), TooLarge),
        ((saying("ab", image(2), image(1)),), InvalidRequest),
        ((saying("ab", image(3)),), InvalidRequest),
        ((saying("ab", image(-1)),), InvalidRequest),
    ],
)
def test_images_out_of_bounds_are_refused(
    messages: tuple[Message, ...], error: type[RequestError]
) -> None:
    with pytest.raises(error):
        ensure_sane_images(messages)
