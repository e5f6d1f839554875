"""What a PNG says of itself, and whether as much is in it. Source: the PNG specification.

stb_image, which decodes it in the worker, inflates all there is, whatever the head says.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from
from typing import Final

from unified_llm.domain.errors import InvalidRequest

MAX_CHUNKS: Final = 8192
"""Encoders write chunks of some KiB; an empty one takes 12 bytes."""

_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS: Final = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
# Adam7: where each pass begins, and its steps, as x, y, dx, dy.
_PASSES: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_HEAD: Final = b"\0\0\0\rIHDR"
_HEAD_END: Final = 33
_NOT_CRITICAL: Final = 0x20  # of a kind's first byte
_DEFLATED_PIECE: Final = 64 * 1024
_INFLATED_PIECE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class PngHead:
    """What the IHDR chunk says. pixel_bits: of one pixel, with all its channels."""

    width: int
    height: int
    pixel_bits: int
    is_interlaced: bool

    @property
    def inflated_bytes(self) -> int:
        """What the IDAT chunks hold: for each row, its filter and its pixels."""
        passes = _PASSES if self.is_interlaced else ((0, 0, 1, 1),)
        return sum(
            self._rows_bytes((self.width - x + dx - 1) // dx, (self.height - y + dy - 1) // dy)
            for x, y, dx, dy in passes
        )

    def _rows_bytes(self, width: int, height: int) -> int:
        return height * (1 + (width * self.pixel_bits + 7) // 8) if width else 0


def parse_png_head(data: bytes, where: str) -> PngHead:
    """The head of a file with PNG's signature. Raises InvalidRequest, of `where`."""
    if len(data) < _HEAD_END or data[8:16] != _HEAD:
        raise _broken(where, f"its {len(data)} bytes do not begin with a head")
    width, height, depth, colour, *methods, interlace = unpack_from(">IIBBBBB", data, 16)
    if depth not in _DEPTHS.get(colour, ()):
        raise _broken(where, f"there is no colour type {colour} with {depth} bits")
    if methods != [0, 0] or interlace > 1:
        raise _broken(where, f"its methods are {methods[0]}, {methods[1]} and {interlace}")
    return PngHead(width, height, depth * _CHANNELS[colour], interlace == 1)


def ensure_as_its_head_says(data: bytes, head: PngHead, where: str) -> None:
    """Raise InvalidRequest unless exactly the pixels of `head` are in the file.

    Takes time by `head.inflated_bytes`, and holds less than 1 MiB of them at once.
    """
    expected, found = head.inflated_bytes, 0
    inflating = zlib.decompressobj()
    try:
        for count in _inflated(inflating, _deflated(data, where)):
            found += count
            if found > expected:
                raise _broken(where, f"it holds more than the {expected} bytes of its pixels")
    except zlib.error as error:
        raise _broken(where, f"its pixels do not inflate after {found} bytes") from error
    if not inflating.eof or found < expected:
        raise _broken(where, f"it holds {found} of the {expected} bytes of its pixels")


def _inflated(inflating: "zlib._Decompress", pieces: Iterator[bytes]) -> Iterator[int]:
    """How many bytes come out, piece by piece."""
    for piece in pieces:
        rest = piece
        while not inflating.eof:
            count = len(inflating.decompress(rest, _INFLATED_PIECE))
            yield count
            rest = inflating.unconsumed_tail
            if not rest and count < _INFLATED_PIECE:
                break


def _deflated(data: bytes, where: str) -> Iterator[bytes]:
    """What the IDAT chunks hold, in pieces, up to the chunk that ends the file."""
    at = _HEAD_END
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            raise _broken(where, f"its {len(data)} bytes end without an end")
        length, kind = unpack_from(">I4s", data, at)
        begin, end = at + 8, at + 8 + length
        if end + 4 > len(data):
            raise _broken(where, f"a chunk ends at byte {end + 4} of {len(data)}")
        if kind == b"IEND":
            return
        if kind == b"IDAT":
            for each in range(begin, end, _DEFLATED_PIECE):
                yield data[each : min(end, each + _DEFLATED_PIECE)]
        elif kind != b"PLTE" and not kind[0] & _NOT_CRITICAL:
            # One of them, CgBI, has stb_image read the pixels in another way than we do.
            raise _broken(where, f"the chunk at byte {at} is of a kind that is not known")
        at = end + 4
    raise InvalidRequest(
        f"An image in {where} has more than {MAX_CHUNKS} chunks, which is the most.",
        hint="Write it anew, with larger ones.",
        parameter=where,
    )


def _broken(where: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"An image in {where} is no sound PNG: {why}.", parameter=where)
