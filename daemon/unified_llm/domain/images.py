"""Pictures that are part of a message, as files; nobody here looks into them."""

import base64
from dataclasses import dataclass, field
from enum import StrEnum


class ImageFormat(StrEnum):
    """A picture's format, by its media type."""

    PNG = "image/png"
    JPEG = "image/jpeg"
    GIF = "image/gif"
    WEBP = "image/webp"


class ImageDetail(StrEnum):
    """How closely a picture shall be looked at, where that has a price."""

    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message.

    data: the file, whole and as it came. place: it stands before the character of the message's
    content that has this number; at the end, if it is the length of the content.
    detail: None leaves it to the model.
    """

    format: ImageFormat
    data: bytes = field(repr=False)
    place: int = 0
    detail: ImageDetail | None = None

    @property
    def base64(self) -> str:
        """The file, as JSON can carry it."""
        return base64.b64encode(self.data).decode()

    @property
    def data_url(self) -> str:
        """The file, as an address that holds all of it (RFC 2397)."""
        return f"data:{self.format.value};base64,{self.base64}"


def format_of(data: bytes) -> ImageFormat | None:
    """The format that the first bytes of a file tell; None if it is none of ours."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if data.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if data.startswith((b"GIF87a", b"GIF89a")):
        return ImageFormat.GIF
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    return None
