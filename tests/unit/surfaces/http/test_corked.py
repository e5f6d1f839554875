"""Bytes of one turn of the event loop go out together, in order, and never pile up."""

import asyncio

from unified_llm.surfaces.http.corked import MOST_HELD, CorkedTransport


class Wire(asyncio.Transport):
    """A transport that keeps what it is given, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.did: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def close(self) -> None:
        self.did.append("close")

    def abort(self) -> None:
        self.did.append("abort")

    def is_closing(self) -> bool:
        return bool(self.did)


def corked() -> tuple[Wire, CorkedTransport]:
    wire = Wire()
    return wire, CorkedTransport(wire, asyncio.get_running_loop())


async def test_what_is_written_in_one_turn_is_sent_in_one_piece() -> None:
    wire, transport = corked()
    for word in (b"head", b"", b"body", b""):
        transport.write(word)
    assert wire.pieces == []
    await asyncio.sleep(0)
    assert wire.pieces == [b"headbody"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert wire.pieces == [b"headbody", b"more"]


async def test_a_writer_that_never_waits_is_not_held_back_for_long() -> None:
    wire, transport = corked()
    written = b"".join(b"%08d" % number for number in range(10_000))
    for start in range(0, len(written), 8):
        transport.write(written[start : start + 8])
        assert start + 8 - sum(map(len, wire.pieces)) <= MOST_HELD
    await asyncio.sleep(0)
    assert b"".join(wire.pieces) == written


async def test_closing_sends_what_was_written_and_nothing_after_it() -> None:
    wire, transport = corked()
    transport.write(b"last")
    transport.close()
    assert (wire.pieces, wire.did) == ([b"last"], ["close"])
    assert transport.is_closing()
    transport.write(b"late")
    await asyncio.sleep(0)
    assert wire.pieces == [b"last"]


async def test_aborting_sends_nothing_more() -> None:
    wire, transport = corked()
    transport.write(b"lost")
    transport.abort()
    await asyncio.sleep(0)
    assert (wire.pieces, wire.did) == ([], ["abort"])
