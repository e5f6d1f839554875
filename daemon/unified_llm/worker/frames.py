"""Finds the frames of `protocol` in what a socket brings."""

from collections.abc import Iterator

from unified_llm.worker.protocol import LENGTH_BYTES, MAX_FRAME_BYTES, ProtocolError


class FrameBuffer:
    """Cuts a byte stream into frame bodies, however the stream is chopped up."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies completed by `data`. Raises ProtocolError at an oversized length."""
        self._buffer += data
        while len(self._buffer) >= LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"frame of {length} bytes; the limit is {MAX_FRAME_BYTES}")
            end = LENGTH_BYTES + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH_BYTES:end])
            del self._buffer[:end]
            yield body

    @property
    def is_empty(self) -> bool:
        """Whether the stream may end here without having cut a frame in two."""
        return not self._buffer
