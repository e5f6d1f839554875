"""The daemon's own JSON: health and status, as the door writes and the command line reads it.

A reader ignores fields it does not know, so that an older client can talk to a newer daemon.
"""

from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unified_llm.domain.chat import FinishReason
from unified_llm.domain.errors import InvalidRequest
from unified_llm.wire.fields import Shape, decode_json, parse_shape

_MOST_BYTES: Final = 2**60
_MOST_TOKENS: Final = 2**31
_ByteCount = Annotated[int, Field(ge=0, le=_MOST_BYTES)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class HealthBody(_Body):
    """`GET /health`: whether requests are taken, and what does not work as configured.

    state: starting, running, degraded, suspending or draining; readers treat other words as
        unknown.
    degraded: one sentence for each thing that is wrong.
    """

    live: bool = True
    ready: bool
    state: str
    degraded: tuple[str, ...] = ()


class DeviceBody(_Body):
    """Main memory or a GPU; null is what the kernel or the driver does not tell.

    models_bytes: what was set aside there for models. others_bytes: what other programs hold.
    """

    id: str
    name: str
    total_bytes: int | None
    used_bytes: int | None
    models_bytes: int
    others_bytes: int | None


class MemoryBody(_Body):
    """Main memory: what the models may take, and what those loaded and loading were given.

    devices: main memory and every GPU that is read.
    """

    budget_bytes: int
    committed_bytes: int
    devices: tuple[DeviceBody, ...] = ()


class RequestsBody(_Body):
    """Requests being served now, and those that wait for their model."""

    running: int
    waiting: int


class WorkerBody(_Body):
    """A process that serves a model. sandbox: the layers it is confined by."""

    model: str
    sandbox: tuple[str, ...]


class ProviderBody(_Body):
    """Whether a provider is asked. state: closed (it is), open (it is not), half-open (one tries).

    trouble: unreachable, failing, overloaded or denying; free_in_seconds: until it is tried again.
    Both are null while it is asked.
    """

    name: str
    state: str
    trouble: str | None = None
    free_in_seconds: float | None = None


class SurroundingsBody(_Body):
    """What the machine is like besides its memory; null is what nobody tells.

    memory_pressure_unwatched: why a shortage of main memory would not be noticed.
    """

    on_battery: bool | None = None
    power_profile: str | None = None
    memory_pressure_unwatched: str | None = None


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
    providers: tuple[ProviderBody, ...] = ()
    surroundings: SurroundingsBody = SurroundingsBody()


class ScanBody(_Body):
    """`POST /v1/models/scan`: how many models there are, have come, have gone, and problems."""

    models: int
    added: int
    removed: int
    problems: int


class PlanShape(Shape):
    """What `POST /v1/models/{id}/plan` may be asked; what is left out is as the model has it.

    ram_bytes, gpu_bytes: free memory to plan for, of main memory and of each GPU; what is left out
    is as the daemon has it left. minimum_context: down to which the context may be cut. needs_gpu:
    refuse rather than compute in main memory. dry_run: have the engine go through the load.
    """

    context_tokens: int | None = None
    minimum_context: int | None = None
    slots: int | None = None
    cache_type: str | None = None
    ram_bytes: _ByteCount | None = None
    # Strictly, a JSON array would be no tuple.
    gpu_bytes: Annotated[tuple[_ByteCount, ...], Field(strict=False)] | None = None
    needs_gpu: bool | None = None
    dry_run: bool = False


class PlannedDeviceBody(_Body):
    """A device, what it may give, and what the plan takes of it."""

    name: str
    budget_bytes: int
    used_bytes: int
    layers: int


class PlannedPartBody(_Body):
    """Something that takes memory on a device, and why, as half a sentence.

    bytes: below zero where it corrects other parts. source: measured, dry-run or arithmetic.
    """

    device: str
    part: str
    bytes: int
    why: str
    source: str


class PlanBody(_Body):
    """`POST /v1/models/{id}/plan`: the best way to run the model that fits.

    sacrifices: what is not as it was wished; assumptions: what the file does not tell; a sentence
    each. cpu_experts: of how many layers the routed experts stay in main memory. source: the best
    source of a figure in it: measured, dry-run or arithmetic.
    """

    model: str
    context_tokens: int
    slots: int
    cache_type: str
    layers: int
    cpu_experts: int
    total_bytes: int
    source: str
    devices: tuple[PlannedDeviceBody, ...]
    parts: tuple[PlannedPartBody, ...]
    sacrifices: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


class ExplainShape(Shape):
    """What `POST /v1/routes/explain` is asked.

    model: what a client would ask for: a model, a route or an alias. prompt_tokens, prompt_bytes:
    length of the prompt, as far as either decides who is asked. tools: whether it comes with some.
    """

    model: str
    local_only: bool = False
    prompt_tokens: Annotated[int, Field(ge=0, le=_MOST_TOKENS)] = 0
    prompt_bytes: Annotated[int, Field(ge=0, le=_MOST_TOKENS)] = 0
    tools: bool = False


class ExplainedTargetBody(_Body):
    """A target. place: 1 for the one that is asked first; null if it is not asked at all.

    most_dollars: an exact decimal, what such a request can cost there. first_content_seconds: until
    it would begin, loading included; loading_seconds: of a model that is not loaded. null where
    that is not known. leaving: the models that would leave memory for it; null if there would not
    be room.
    """

    model: str
    backend: str
    place: int | None
    reason: str
    resident: bool = False
    most_dollars: str | None = None
    first_content_seconds: float | None = None
    loading_seconds: float | None = None
    leaving: tuple[str, ...] | None = ()


class ExplainedRuleBody(_Body):
    """A rule of the route that was looked at. number: its place, from 1; why: half a sentence."""

    number: int
    applies: bool
    why: str


class ExplanationBody(_Body):
    """`POST /v1/routes/explain`: who would be asked, in which order, and why.

    kept_local: who wants the request not to leave the machine; null if it may. rules: of the
    route, up to the first that applies.
    """

    model: str
    route: str
    strategy: str
    kept_local: str | None
    targets: tuple[ExplainedTargetBody, ...]
    rules: tuple[ExplainedRuleBody, ...] = ()


class UsageLineBody(_Body):
    """Answers of one model to one principal on one day of UTC.

    dollars: an exact decimal, of those whose price is known. unpriced: how many are not in it.
    estimated: how many are in it at the most they can have cost.
    """

    day: str
    principal: str
    provider: str
    model: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    dollars: str
    unpriced: int
    estimated: int


class BudgetBody(_Body):
    """How a budget stands. principal: null for all users together; used: set aside included."""

    name: str
    period: str
    principal: str | None
    limit_dollars: str
    used_dollars: str


class UsageReportBody(_Body):
    """`GET /v1/usage`: the latest day first."""

    lines: tuple[UsageLineBody, ...]
    budgets: tuple[BudgetBody, ...] = ()


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


def parse_explain(raw: bytes) -> ExplainShape:
    """The question in a body. Raises InvalidRequest."""
    return parse_shape(ExplainShape, decode_json(raw))


def parse_plan(raw: bytes) -> PlanShape:
    """The question in a body; no body asks for the model as it is. Raises InvalidRequest."""
    return parse_shape(PlanShape, decode_json(raw)) if raw else PlanShape()
