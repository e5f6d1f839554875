"""What a provider says is wrong becomes an error that others can act on."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.errors import (
    ContentFiltered,
    ProviderDenied,
    ProviderFailed,
    ProviderOverloaded,
    ProviderRefused,
    TooLarge,
    UnifiedLlmError,
    concrete_errors,
)
from unified_llm.domain.units import Seconds
from unified_llm.providers.faults import (
    MAX_RETRY_AFTER,
    Said,
    error_of_event,
    error_of_status,
    parse_retry_after,
    parse_said,
)
from unified_llm.routing.health import UNSENT

OPENAI = b'{"error": {"message": "Too long.", "type": "invalid_request_error", "code": "%b"}}'
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (OPENAI % b"c", Said(("c", "invalid_request_error"), "Too long.")),
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            Said(("overloaded_error",), "Overloaded"),
        ),
        (b'{"error": "model not found"}', Said((), "model not found")),
        (b'{"error": "busy", "error_type": "overloaded"}', Said(("overloaded",), "busy")),
        (
            b'{"object":"error","message":"bad","type":"BadRequestError","code":400}',
            Said(("BadRequestError",), "bad"),
        ),
        (b"<html>502</html>", Said()),
        (b"[" * 100_000, Said()),
        (b'"text"', Said()),
        (b"\xff", Said()),
    ],
)
def test_every_shape_of_error_body_is_read(body: bytes, said: Said) -> None:
    assert parse_said(body) == said


@pytest.mark.parametrize(
    ("status", "word", "kind"),
    [
        (400, "context_length_exceeded", TooLarge),
        (400, "exceed_context_size_error", TooLarge),
        (413, "", TooLarge),
        (400, "content_filter", ContentFiltered),
        (400, "invalid_request_error", ProviderRefused),
        (404, "model_not_found", ProviderRefused),
        (422, "", ProviderRefused),
        (401, "invalid_api_key", ProviderDenied),
        (402, "", ProviderDenied),
        (403, "", ProviderDenied),
        (407, "", ProviderDenied),
        (429, "rate_limit_exceeded", ProviderOverloaded),
        (429, "insufficient_quota", ProviderDenied),
        (503, "", ProviderOverloaded),
        (529, "overloaded_error", ProviderOverloaded),
        (500, "server_error", ProviderFailed),
        (502, "", ProviderFailed),
        (504, "", ProviderFailed),
        (204, "", ProviderFailed),
        (301, "", ProviderFailed),
    ],
)
def test_status_and_word_decide_the_error(
    status: int, word: str, kind: type[UnifiedLlmError]
) -> None:
    error = error_of_status(status, Said((word,) if word else (), "It said."), Seconds(3))
    assert type(error) is kind
    assert str(status) in error.message
    assert error.retry_after == (Seconds(3) if kind is ProviderOverloaded else None)


@pytest.mark.parametrize("status", [401, 403])
def test_what_is_said_about_a_key_is_not_passed_on(status: int) -> None:
    error = error_of_status(status, Said((), "Incorrect API key provided: sk-ab***yz."))
    assert "sk-ab" not in str(error)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("overloaded_error", ProviderOverloaded),
        ("too-large", TooLarge),
        ("authentication_error", ProviderDenied),
        ("worker-died", ProviderFailed),
        ("", ProviderFailed),
    ],
)
def test_an_error_within_a_stream_is_told_by_its_word(
    word: str, kind: type[UnifiedLlmError]
) -> None:
    assert type(error_of_event(Said((word,), "It broke."))) is kind


def test_what_is_passed_on_is_short_and_one_line() -> None:
    body = b'{"error":{"message":"\\u001b[31mred\\n\\u202eevil' + b"x" * 1000 + b'"}}'
    message = error_of_status(400, parse_said(body)).message
    assert message.isprintable()
    assert len(message) < 400


@given(st.integers(100, 599), st.binary(max_size=60))
def test_nothing_a_provider_sends_is_a_surprise(status: int, body: bytes) -> None:
    assert isinstance(error_of_status(status, parse_said(body)), UnifiedLlmError)


@given(st.integers(100, 599), st.sampled_from(sorted(error.code for error in concrete_errors())))
def test_no_word_of_a_provider_becomes_a_refusal_of_our_own(status: int, word: str) -> None:
    said = Said((word,))
    assert not {type(error_of_status(status, said)), type(error_of_event(said))} & UNSENT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30),
        ({"retry-after": "Thu, 01 Jan 2015 00:00:30 GMT"}, 0),
        ({"retry-after": "999999999999"}, MAX_RETRY_AFTER),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Fri, 99 Foo 9999"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read_in_every_form(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert parse_retry_after(headers, NOW) == seconds


@given(st.text(max_size=30))
def test_no_retry_after_is_a_surprise(text: str) -> None:
    found = parse_retry_after({"retry-after": text}, NOW)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER
