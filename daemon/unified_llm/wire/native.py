"""The daemon's own JSON: health and status, as the door writes and the command line reads it.

A reader ignores fields it does not know, so that an older client can talk to a newer daemon.
"""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from unified_llm.domain.chat import FinishReason
from unified_llm.domain.errors import InvalidRequest


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class HealthBody(_Body):
    """`GET /health`: whether requests are taken, and what does not work as configured.

    state: starting, running, degraded or draining; readers treat other words as unknown.
    degraded: one sentence for each thing that is wrong.
    """

    live: bool = True
    ready: bool
    state: str
    degraded: tuple[str, ...] = ()


class MemoryBody(_Body):
    """Main memory: what the models may take, and what those loaded and loading were given."""

    budget_bytes: int
    committed_bytes: int


class RequestsBody(_Body):
    """Requests being served now, and those that wait for their model."""

    running: int
    waiting: int


class WorkerBody(_Body):
    """A process that serves a model. sandbox: the layers it is confined by."""

    model: str
    sandbox: tuple[str, ...]


class StatusBody(_Body):
    """`GET /v1/status`: the whole picture.

    uptime_seconds: since the doors opened. models: how many are in each state that occurs.
    workers: one for each model that is loaded.
    """

    version: str
    health: HealthBody
    uptime_seconds: float
    models: dict[str, int]
    requests: RequestsBody
    memory: MemoryBody
    workers: tuple[WorkerBody, ...] = ()


class DeltaBody(_Body):
    """The next piece of a streamed message."""

    content: str | None = None


class ChoiceBody(_Body):
    """One answer in a chunk; `finish_reason` in its last."""

    delta: DeltaBody
    finish_reason: FinishReason | None = None


class UsageBody(_Body):
    """What a request took."""

    prompt_tokens: int
    completion_tokens: int


class ChunkBody(_Body):
    """One event of a streamed chat, as far as our reader needs it; `error` ends the stream."""

    choices: tuple[ChoiceBody, ...] = ()
    usage: UsageBody | None = None
    error: dict[str, object] | None = None


BodyT = TypeVar("BodyT", bound=_Body)


def encode_body(body: _Body) -> bytes:
    """The JSON of `body`."""
    return body.model_dump_json().encode()


def decode_body(shape: type[BodyT], raw: bytes) -> BodyT:
    """The answer of a daemon. Raises InvalidRequest if it is none of that shape."""
    try:
        return shape.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidRequest(
            f"The answer is not a {shape.__name__}: {error.error_count()} problems.",
            hint="Daemon and client may be of different versions.",
        ) from error
