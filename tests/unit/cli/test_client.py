"""What the command line makes of an event stream."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.cli.client import parse_events
from unified_llm.cli.session import DaemonUnreachable
from unified_llm.domain.chat import Finished, FinishReason, TextDelta, Usage
from unified_llm.domain.errors import (
    InternalError,
    InvalidRequest,
    NoRoom,
    UnifiedLlmError,
    WorkerDied,
)
from unified_llm.domain.units import Tokens


def data(value: Any) -> str:
    return f"data: {json.dumps(value)}"


def chunk(text: str | None, reason: str | None = None) -> str:
    delta = {} if text is None else {"content": text}
    return data({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})


USAGE = data({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
WHOLE = [": ping", "", chunk(""), chunk("Hel"), chunk("lo"), chunk(None, "stop"), USAGE]


def test_a_whole_answer_is_text_and_one_end() -> None:
    assert list(parse_events(iter([*WHOLE, "data: [DONE]"]))) == [
        TextDelta("Hel"),
        TextDelta("lo"),
        Finished(FinishReason.STOP, Usage(Tokens(3), Tokens(2))),
    ]


@given(st.integers(0, len(WHOLE)))
def test_an_answer_cut_off_anywhere_is_never_taken_for_whole(kept: int) -> None:
    with pytest.raises(WorkerDied, match="broke off"):
        list(parse_events(iter(WHOLE[:kept])))


def test_a_stream_without_a_reason_is_no_good_end() -> None:
    with pytest.raises(WorkerDied):
        list(parse_events(iter([chunk("Hello"), "data: [DONE]"])))


@pytest.mark.parametrize(
    ("code", "kind"), [("no-room", NoRoom), ("from-the-future", InternalError)]
)
def test_an_error_event_is_the_error_it_tells_of(code: str, kind: type[UnifiedLlmError]) -> None:
    events = parse_events(iter([chunk("Hel"), data({"error": {"message": "No.", "code": code}})]))
    assert next(events) == TextDelta("Hel")
    with pytest.raises(kind):
        next(events)


@given(st.text())
def test_what_is_no_answer_is_said_to_be_none(text: str) -> None:
    line = "data: " + " ".join(text.split())
    with pytest.raises((DaemonUnreachable, UnifiedLlmError)):
        list(parse_events(iter([line])))


def test_an_internal_error_keeps_the_id_that_the_log_has() -> None:
    told = str(InternalError("0badcafe"))
    events = parse_events(iter([data({"error": {"message": told, "code": "internal"}})]))
    with pytest.raises(InternalError) as caught:
        next(events)
    assert (caught.value.incident, str(caught.value)) == ("0badcafe", told)


def test_what_the_http_door_refuses_by_itself_is_the_requests_fault() -> None:
    error = {"message": "No such route.", "code": "unknown-route", "type": "invalid_request_error"}
    with pytest.raises(InvalidRequest, match=r"^No such route\.$"):
        next(parse_events(iter([data({"error": error})])))
