"""OpenAI's parts of a message: texts, and pictures that came along in `data:` URLs (RFC 2397).

Rule 1: no address is fetched, here or by anybody it would be passed on to. Whoever fetches it may
reach what the caller may not, such as a server in their own network.
Rule 2: what a file is, its own first bytes say; clients are often wrong about it.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Tag

from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.images import Image, ImageDetail, format_of
from unified_llm.wire.fields import Shape


class TextPartShape(Shape):
    """A text."""

    type: Literal["text"]
    text: str


class ImageUrlShape(Shape):
    """A picture, and how closely to look at it."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePartShape(Shape):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrlShape

    def image(self, place: int, where: str) -> Image:
        """The domain's word for it. where: the path of this part. Raises InvalidRequest."""
        parameter = f"{where}.image_url.url"
        data = _decode(self.image_url.url, parameter)
        found = format_of(data)
        if found is None:
            raise InvalidRequest(
                f"{parameter} holds no picture in PNG, JPEG, GIF or WebP.", parameter=parameter
            )
        detail = self.image_url.detail
        return Image(found, data, place, None if detail in (None, "auto") else ImageDetail(detail))


def _tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "<image>" if kind == "image_url" else "<words>"


PartShape = Annotated[
    Annotated[TextPartShape, Tag("<words>")] | Annotated[ImagePartShape, Tag("<image>")],
    Discriminator(_tag),
]


def gathered(
    parts: Sequence[TextPartShape | ImagePartShape], where: str
) -> tuple[str, tuple[Image, ...]]:
    """Texts as paragraphs of one, as in vLLM, and the images between them.

    where: the path of the parts. Raises InvalidRequest.
    """
    texts: list[str] = []
    images: list[Image] = []
    length, is_after_text = 0, False
    for index, part in enumerate(parts):
        if isinstance(part, TextPartShape):
            texts.append(f"\n{part.text}" if is_after_text else part.text)
            length += len(texts[-1])
        else:
            images.append(part.image(length, f"{where}[{index}]"))
        is_after_text = isinstance(part, TextPartShape)
    return "".join(texts), tuple(images)


def _decode(url: str, parameter: str) -> bytes:
    head, comma, encoded = url.partition(",")
    if not head[:5].lower() == "data:":
        raise InvalidRequest(
            f"{parameter} is no data: URL. Addresses are not fetched.",
            hint="Send the file itself, as data:image/png;base64,…",
            parameter=parameter,
        )
    if not comma or not head.lower().endswith(";base64"):
        raise InvalidRequest(f"{parameter} holds no base64.", parameter=parameter)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{parameter} holds no sound base64.", parameter=parameter) from error
