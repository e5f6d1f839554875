"""What a provider says is wrong, as one of our errors, so that others can decide what to do.

A provider is recognised by the status and the machine-readable words of its error, never by the
sentence that comes with them. That sentence is passed on where the caller can do something about
it, shortened, without control characters and without our key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from unified_llm.domain.errors import (
    ContentFiltered,
    ProviderDenied,
    ProviderFailed,
    ProviderOverloaded,
    ProviderRefused,
    TooLarge,
    UnifiedLlmError,
)
from unified_llm.domain.units import Seconds

MAX_SAID_CHARACTERS: Final = 300
# Longer than that, nobody waits; a provider that says so is believed up to here.
MAX_RETRY_AFTER: Final = Seconds(86_400)

_OVERLOADED_STATUS: Final = frozenset({429, 503, 529})
# 402 is what DeepSeek and OpenRouter send when the balance is spent.
_DENIED_STATUS: Final = frozenset({401, 402, 403, 407})
_TOO_LARGE_WORDS: Final = frozenset({"context_length_exceeded", "request_too_large", "too-large"})
_TOO_LARGE_TYPES: Final = frozenset({"exceed_context_size_error"})  # llama-server
_FILTER_WORDS: Final = frozenset(
    {"content_filter", "content_policy_violation", "content-filtered", "invalid_prompt"}
)
_OVERLOADED_WORDS: Final = frozenset(
    {
        "overloaded_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "server_overloaded",
        "overloaded",  # TGI
        "queue-full",  # another unified-llm, and so are the words with hyphens elsewhere
        "rate-limited",
        "provider-overloaded",
    }
)
_DENIED_WORDS: Final = frozenset(
    {
        "authentication_error",
        "permission_error",
        "billing_error",
        "invalid_api_key",
        "insufficient_quota",
        "not-permitted",
        "provider-denied",
    }
)
_REFUSED_WORDS: Final = frozenset(
    {"invalid_request_error", "not_found_error", "model_not_found", "validation"}
)
_WORDS: Final[tuple[tuple[frozenset[str], type[UnifiedLlmError]], ...]] = (
    (_TOO_LARGE_WORDS | _TOO_LARGE_TYPES, TooLarge),
    (_FILTER_WORDS, ContentFiltered),
    (_DENIED_WORDS, ProviderDenied),
    (_OVERLOADED_WORDS, ProviderOverloaded),
    (_REFUSED_WORDS, ProviderRefused),
)
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Said:
    """What an error body says. words: its code and type, the more exact one first."""

    words: tuple[str, ...] = ()
    message: str = ""


def parse_said(raw: bytes) -> Said:
    """What untrusted `raw` says, in any of the shapes in use; nothing if it has none of them.

    OpenAI and Anthropic nest an object under `error`; Ollama and TGI have a text there; vLLM's
    older form has the fields on top.
    """
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Said()
    return said_of(body)


def said_of(body: object) -> Said:
    """As `parse_said`, of a value that has been decoded."""
    if not isinstance(body, Mapping):
        return Said()
    error: Any = body.get("error")
    if isinstance(error, Mapping):
        return _said(error)
    if isinstance(error, str):
        kind = body.get("error_type")
        return Said((kind,) if isinstance(kind, str) else (), clean(error))
    return _said(body)


def _said(error: Mapping[str, object]) -> Said:
    words = tuple(word for name in ("code", "type") if isinstance(word := error.get(name), str))
    message = error.get("message")
    return Said(words, clean(message) if isinstance(message, str) else "")


def clean(text: str) -> str:
    """`text` of a provider, fit for a log and a terminal."""
    text = _CONTROLS.sub(" ", text).strip()
    return text if len(text) <= MAX_SAID_CHARACTERS else text[:MAX_SAID_CHARACTERS] + "…"


def error_of_status(status: int, said: Said, retry_after: Seconds | None = None) -> UnifiedLlmError:
    """The error for an answer with `status`, which is not 200."""
    kind = _kind_of_words(said)
    if status in _OVERLOADED_STATUS and kind is not ProviderDenied:
        kind = ProviderOverloaded
    elif status in _DENIED_STATUS:
        kind = ProviderDenied
    elif status >= 500:
        kind = ProviderOverloaded if kind is ProviderOverloaded else ProviderFailed
    elif status == 413:
        kind = TooLarge
    elif status < 400:
        kind = ProviderFailed
    elif kind is None:
        kind = ProviderRefused
    return _error(kind, f"The provider answered with status {status}", said, retry_after)


def error_of_event(said: Said) -> UnifiedLlmError:
    """The error for what is said in the middle of a stream, where there is no status."""
    kind = _kind_of_words(said) or ProviderFailed
    return _error(kind, "The provider ended its answer with an error", said, None)


def _kind_of_words(said: Said) -> type[UnifiedLlmError] | None:
    for word in said.words:
        for words, kind in _WORDS:
            if word in words:
                return kind
    return None


def _error(
    kind: type[UnifiedLlmError], fact: str, said: Said, retry_after: Seconds | None
) -> UnifiedLlmError:
    if kind is ProviderDenied:
        # Providers repeat parts of the key here, and the caller can do nothing about it.
        return kind(f"{fact}: it does not accept our key or account.", hint=_SEE_KEY)
    told = f"{fact}: {said.message}" if said.message else f"{fact}."
    if kind is ProviderOverloaded:
        return kind(told, retry_after=retry_after)
    return kind(told)


_SEE_KEY: Final = "The operator finds which credential it is under `providers` in the settings."


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> Seconds | None:
    """How long the provider asks us to wait; None if it does not say, or makes no sense.

    Raises nothing: `retry-after-ms` (OpenAI), else `retry-after` in seconds or as a date (RFC 9110
    10.2.3).
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is not None:
        return _bounded(seconds)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _bounded((moment - (now or datetime.now(UTC))).total_seconds())


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text) else None


def _bounded(seconds: float) -> Seconds:
    return Seconds(min(max(seconds, 0.0), MAX_RETRY_AFTER))
