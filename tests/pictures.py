"""Pictures of all kinds, written by the letter of their specifications."""

import random
import struct
import zlib
from typing import NamedTuple

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = tuple(
    (colour, depth)
    for colour, depths in {
        0: (1, 2, 4, 8, 16),
        2: (8, 16),
        3: (1, 2, 4, 8),
        4: (8, 16),
        6: (8, 16),
    }.items()
    for depth in depths
)
"""Colour types of PNG, with the depths that they may have."""

# The number of the pass in which each pixel of a square of eight comes, as the specification
# of PNG draws it.
_ADAM7 = (
    "16462646",
    "77777777",
    "56565656",
    "77777777",
    "36463646",
    "77777777",
    "56565656",
    "77777777",
)


class Kind(NamedTuple):
    """How a PNG has its pixels."""

    colour: int = 2
    depth: int = 8
    is_interlaced: bool = False


def rows_of(width: int, height: int, kind: Kind) -> bytes:
    """Noise for all pixels, unfiltered, as IDAT has it before it is deflated."""
    noise = random.Random(width)
    rows = b""
    for number in "1234567" if kind.is_interlaced else "1":
        for y in range(height):
            count = (
                sum(_ADAM7[y % 8][x % 8] == number for x in range(width))
                if kind.is_interlaced
                else width
            )
            if count:
                bits = count * kind.depth * CHANNELS[kind.colour]
                rows += b"\0" + noise.randbytes(-(-bits // 8))
    return rows


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(
    width: int,
    height: int,
    kind: Kind | None = None,
    *,
    idat: bytes | None = None,
    before: bytes = b"",
) -> bytes:
    """A PNG in which each IDAT chunk has 100 bytes.

    idat: what these hold; None for what belongs there. before: chunks that come before them.
    """
    kind = kind or Kind()
    if idat is None:
        idat = zlib.compress(rows_of(width, height, kind))
    head = struct.pack(">IIBBBBB", width, height, kind.depth, kind.colour, 0, 0, kind.is_interlaced)
    palette = chunk(b"PLTE", bytes(range(3 * 2 ** min(kind.depth, 6)))) * (kind.colour == 3)
    pieces = [chunk(b"IDAT", idat[at : at + 100]) for at in range(0, len(idat), 100)]
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            before,
            palette,
            *pieces,
            chunk(b"IEND", b""),
        )
    )


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_of(width: int, height: int, *before: bytes, scans: int = 1) -> bytes:
    """A progressive JPEG, grey all over. before: segments that come before its frame."""
    frame = segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00")
    quantizers = segment(0xDB, b"\0" + b"\1" * 64)
    # One code of one bit, for a difference of 0 to the block before.
    codes = segment(0xC4, b"\0\1" + bytes(15) + b"\0")
    blocks = -(-width // 8) * -(-height // 8)
    scan = segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))
    return b"".join((b"\xff\xd8", *before, frame, quantizers, codes, scan * scans, b"\xff\xd9"))
