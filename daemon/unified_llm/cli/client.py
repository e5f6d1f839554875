"""The daemon's HTTP door, from outside: reads, and chats as a stream of events."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from unified_llm.cli.session import DaemonUnreachable, parse_json, socket_path
from unified_llm.domain.chat import ChatEvent, Finished, FinishReason, Message, TextDelta, Usage
from unified_llm.domain.errors import (
    InternalError,
    InvalidRequest,
    NotPermitted,
    UnifiedLlmError,
    WorkerDied,
    concrete_errors,
)
from unified_llm.domain.units import Tokens
from unified_llm.wire.native import (
    ChunkBody,
    ExplainShape,
    ExplanationBody,
    HealthBody,
    PlanBody,
    PlanShape,
    StatusBody,
    UsageReportBody,
    decode_body,
)

_CONNECT_SECONDS: Final = 5.0
# Loading a large model may take minutes before the first byte; the daemon has the deadlines.
_ANSWER_SECONDS: Final = 1200.0
_INCIDENT: Final = re.compile(r"Internal error ([0-9a-f]+)\.")
_ERRORS: Final = {kind.code: kind for kind in concrete_errors()}


class Daemon:
    """A connection to the daemon on its Unix socket."""

    def __init__(self) -> None:
        self._path = socket_path()
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=self._path),
            base_url="http://unified-llm",
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def status(self) -> StatusBody:
        """How the daemon is."""
        return decode_body(StatusBody, self._get("/v1/status").content)

    def health(self) -> HealthBody:
        """Whether it takes requests; answered also while it does not."""
        with self._mapped():
            return decode_body(HealthBody, self._http.get("/health").content)

    def models(self) -> list[dict[str, Any]]:
        """Every model, as the OpenAI API describes it, with our fields under x_unified_llm."""
        answer: Any = parse_json(self._get("/v1/models").text)
        models: list[dict[str, Any]] = answer["data"]
        return models

    def model(self, name: str) -> dict[str, Any]:
        """One model. Raises UnknownModel."""
        answer: Any = parse_json(self._get(f"/v1/models/{_quoted(name)}").text)
        model: dict[str, Any] = answer
        return model

    def plan(self, model: str, asked: PlanShape) -> PlanBody:
        """How a model would be run. Raises UnknownModel, NoRoom."""
        body = asked.model_dump_json(exclude_none=True).encode()
        return decode_body(PlanBody, self._post(f"/v1/models/{_quoted(model)}/plan", body).content)

    def explain_route(self, asked: ExplainShape) -> ExplanationBody:
        """Who would be asked for a request, and why. Raises UnknownModel."""
        body = _encoded(asked.model_dump())
        return decode_body(ExplanationBody, self._post("/v1/routes/explain", body).content)

    def usage(self, days: int) -> UsageReportBody:
        """What was used, and how budgets stand."""
        return decode_body(UsageReportBody, self._get(f"/v1/usage?days={days}").content)

    @contextmanager
    def open_chat(
        self, model: str, messages: Sequence[Message], options: dict[str, object]
    ) -> Iterator[Iterator[ChatEvent]]:
        """The answer as it comes; leaving the context stops it."""
        body = {
            "model": model,
            "messages": [{"role": m.role.value, "content": m.content} for m in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **options,
        }
        with (
            self._mapped(),
            self._http.stream(
                "POST",
                "/v1/chat/completions",
                content=_encoded(body),
                headers={"content-type": "application/json"},
            ) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                answer.read()
                raise _error_in(parse_json(answer.text))
            yield parse_events(answer.iter_lines())

    def _get(self, path: str) -> httpx.Response:
        return self._asked("GET", path)

    def _post(self, path: str, body: bytes) -> httpx.Response:
        return self._asked("POST", path, body)

    def _asked(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        with self._mapped():
            answer = self._http.request(method, path, content=body)
        if answer.status_code != httpx.codes.OK:
            raise _error_in(parse_json(answer.text))
        return answer

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            if isinstance(_root_cause(error), PermissionError):
                raise NotPermitted(
                    f"This user may not open {self._path}.",
                    hint="Its group may; membership counts from the next login.",
                ) from error
            raise DaemonUnreachable(
                f"No answer at {self._path}: {error}. Is the daemon running? See "
                "`systemctl status unified-llm`; UNIFIED_LLM_SOCKET names another socket."
            ) from error


def parse_events(lines: Iterator[str]) -> Iterator[ChatEvent]:
    """The chat in the lines of a server-sent event stream.

    Only `data: [DONE]` after a finish reason is a good end; whatever else ends it raises.
    """
    reason: FinishReason | None = None
    usage: Usage | None = None
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            if reason is None:
                break
            yield Finished(reason, usage)
            return
        chunk = _parse_chunk(data)
        if chunk.error is not None:
            raise _error_in({"error": chunk.error})
        if chunk.usage is not None:
            usage = Usage(Tokens(chunk.usage.prompt_tokens), Tokens(chunk.usage.completion_tokens))
        for choice in chunk.choices:
            if choice.delta.content:
                yield TextDelta(choice.delta.content)
            reason = choice.finish_reason or reason
    raise WorkerDied("The answer broke off.", hint="See the daemon's log.")


def _parse_chunk(data: str) -> ChunkBody:
    try:
        return decode_body(ChunkBody, data.encode())
    except InvalidRequest as error:
        raise DaemonUnreachable(
            f"What answers at {socket_path()} does not speak our protocol: {error}"
        ) from error


def _error_in(body: Any) -> UnifiedLlmError:
    """The domain error that an answer's body tells of."""
    error = body.get("error", {}) if isinstance(body, dict) else {}
    message = str(error.get("message", json.dumps(body)))
    kind = _ERRORS.get(str(error.get("code")))
    if kind is None:
        return _refused_by_door(message, str(error.get("type")))
    if issubclass(kind, InternalError):
        incident = _INCIDENT.search(message)
        return kind(incident[1] if incident else "unknown")
    if issubclass(kind, InvalidRequest):
        return kind(message, parameter=error.get("param"))
    return kind(message)


def _refused_by_door(message: str, type_: str) -> UnifiedLlmError:
    """The HTTP door, or a later daemon, has codes of its own; the type tells whose fault it is."""
    return InvalidRequest(message) if type_ == "invalid_request_error" else InternalError(message)


def _quoted(name: str) -> str:
    """`name` as it stands in a path. A URL's own signs in it would ask for something else."""
    if name in {"", ".", ".."} or "/../" in f"/{name}/" or "/./" in f"/{name}/":
        raise InvalidRequest(f"{name!r} is not a model id.", parameter="model")
    try:
        return quote(name, safe="/:")
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{name!r} is not a model id.", parameter="model") from error


def _encoded(body: dict[str, object]) -> bytes:
    """`body` as JSON. A command line can hold what JSON can not."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("The command line is not text in UTF-8.") from error
    except ValueError as error:
        raise InvalidRequest("A number is not finite.") from error


def _root_cause(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
