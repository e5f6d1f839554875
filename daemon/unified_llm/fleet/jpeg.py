"""What the head of a JPEG says, and how many scans are in it. Source: ITU-T T.81."""

import re
from struct import unpack_from
from typing import Final

from unified_llm.domain.errors import InvalidRequest

MAX_SCANS: Final = 64
"""Each one walks over all pixels. libjpeg's jpeg_simple_progression writes 10 in colour."""

HEAD_BYTES: Final = 256 * 1024
MAX_SEGMENTS: Final = 256

_FILL: Final = re.compile(rb"\xff+")  # a marker begins with one of them or more
_SCAN: Final = b"\xff\xda"
_NOT_FRAMES: Final = frozenset({0xC4, 0xC8, 0xCC})  # tables, and an extension
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def parse_jpeg_size(data: bytes, where: str) -> tuple[int, int]:
    """Width and height, as the file's head says. Raises InvalidRequest, of `where`."""
    head = data[:HEAD_BYTES]
    at = 2
    for _ in range(MAX_SEGMENTS):
        fill = _FILL.match(head, at)
        if fill is None and at < len(head):
            raise _broken(where, f"there is no marker at byte {at}")
        body = fill.end() + 1 if fill else len(head)
        if body + 7 > len(head):
            break
        marker = head[body - 1]
        if marker in _ALONE:
            at = body
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            height, width = unpack_from(">HH", head, body + 3)
            return width, height
        (length,) = unpack_from(">H", head, body)
        if length < 2:
            raise _broken(where, f"the segment at byte {at} has a length of {length}")
        at = body + length
    raise _broken(
        where, f"its first {len(head)} bytes and {MAX_SEGMENTS} segments do not say its size"
    )


def count_scans(data: bytes, where: str) -> int:
    """How often decoding walks over the picture. Raises InvalidRequest above MAX_SCANS.

    Within a scan the two bytes can not stand, so only what other programs have put into the file
    is counted in vain, such as a smaller picture.
    """
    scans = data.count(_SCAN)
    if scans > MAX_SCANS:
        raise InvalidRequest(
            f"An image in {where} has {scans} scans; the most is {MAX_SCANS}.",
            hint="Write it anew, as a baseline JPEG.",
            parameter=where,
        )
    return scans


def _broken(where: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"An image in {where} is no sound JPEG: {why}.", parameter=where)
