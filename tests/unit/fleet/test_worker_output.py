import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.timers import FakeTimers, settle
from unified_llm.fleet.worker_output import (
    LINE_BYTES,
    LINES_PER_WINDOW,
    WINDOW,
    LineCutter,
    WorkerOutput,
    render_line,
)


def lines_of(*chunks: bytes) -> list[str]:
    cutter = LineCutter()
    found = [line for chunk in chunks for line in cutter.feed(chunk)]
    return [*found, *cutter.finish()]


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_how_the_bytes_are_chopped_up_makes_no_difference(chunks: list[bytes]) -> None:
    assert lines_of(*chunks) == lines_of(b"".join(chunks))


@given(st.binary(max_size=5000))
def test_no_line_is_long_or_holds_control_characters(data: bytes) -> None:
    for line in lines_of(data):
        assert len(line) <= LINE_BYTES * 4
        assert line.isprintable()


def test_an_escape_sequence_is_shown_not_obeyed() -> None:
    assert render_line(b"\x1b[31mred\xff\ttab \xc3\xa4") == "\\x1b[31mred\\xff\\ttab ä"


def test_a_line_without_end_comes_in_pieces() -> None:
    assert [len(line) for line in lines_of(b"x" * (2 * LINE_BYTES + 5))] == [1000, 1000, 5]


async def test_a_worker_that_shouts_is_counted_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    timers = FakeTimers()
    reading, writing = os.pipe()
    with caplog.at_level(logging.INFO):
        output = WorkerOutput(reading, "tiny[7]", timers)
        os.write(writing, b"noise\n" * (LINES_PER_WINDOW + 50))
        await settle()
        await timers.advance(WINDOW)
        os.write(writing, b"last words")
        os.close(writing)
        output.close()
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("tiny[7]: noise") == LINES_PER_WINDOW
    assert "tiny[7]: 50 more lines were printed and dropped" in messages
    assert messages[-1] == "tiny[7]: last words"


async def test_the_end_of_the_pipe_does_not_spin() -> None:
    timers = FakeTimers()
    reading, writing = os.pipe()
    output = WorkerOutput(reading, "tiny[7]", timers)
    os.close(writing)
    await settle()
    output.close()
