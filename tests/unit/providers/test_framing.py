"""Lines and events come out the same however their bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.providers.cuts import cuts_of
from unified_llm.domain.errors import ProviderFailed
from unified_llm.providers import framing
from unified_llm.providers.framing import LineFramer, SseEvent, SseFramer

STREAM = (
    b"\xef\xbb\xbf: a comment\n\nevent: ping\ndata: 1\r\n\r\ndata:2\rdata: 3\r\rid: 7\nretry: 1\n"
    b"event: named\n\ndata\n\ndata:  two spaces\n\ndata: never ended"
)
EVENTS = [
    SseEvent("ping", b"1"),
    SseEvent("message", b"2\n3"),
    SseEvent("message", b""),
    SseEvent("message", b" two spaces"),
]


@given(cuts_of(STREAM))
def test_events_do_not_depend_on_the_cuts(pieces: list[bytes]) -> None:
    framer = SseFramer()
    assert [event for piece in pieces for event in framer.feed(piece)] == EVENTS


@given(st.lists(st.binary(max_size=9), max_size=5), st.data())
def test_lines_do_not_depend_on_the_cuts(parts: list[bytes], data: st.DataObject) -> None:
    content = b"\n".join(parts) + b"\r\n"
    whole = list(LineFramer().feed(content))
    framer = LineFramer()
    pieces = data.draw(cuts_of(content))
    assert [line for piece in pieces for line in framer.feed(piece)] == whole


def test_a_line_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_LINE_BYTES", 100)
    framer = LineFramer()
    assert list(framer.feed(b"0123456789" * 10)) == []
    with pytest.raises(ProviderFailed, match="100 bytes"):
        list(framer.feed(b"0"))


def test_an_event_of_endless_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_LINE_BYTES", 100)
    framer = SseFramer()
    assert list(framer.feed(b"data: 1234\n" * 20)) == []
    with pytest.raises(ProviderFailed, match="100 bytes"):
        list(framer.feed(b"data:\n"))


def test_what_has_begun_and_not_ended_is_known() -> None:
    framer = LineFramer()
    assert list(framer.feed(b"one\ntw")) == [b"one"]
    assert framer.has_rest
    assert list(framer.feed(b"o\n")) == [b"two"]
    assert not framer.has_rest
