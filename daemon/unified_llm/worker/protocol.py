"""What daemon and worker say to each other.

Both ends run on one machine but may be of two versions for a moment during an upgrade, and a
worker that has read a hostile model file counts as hostile. So frames are bounded, typed and
checked on both sides, and the worker's first word is its protocol version.

A frame is a 4-byte big-endian length, then that many bytes of one msgpack map whose key `type`
names the message. Order: the worker sends Hello, or NotConfined and ends; the daemon sends Load
once, or Rehearse, which Rehearsed or LoadFailed and the worker's end answer; the worker sends any
Progress, then Loaded or LoadFailed; from then on Generate, Embed, Rank, Cancel, Pause and Resume go
down. For each Generate there comes up: Started, any Delta and Call, then exactly one Done or
Failed; for each Embed or Rank the same with a Vector for each text instead, in the texts' order.
Heartbeat may come at any time, and so may DropState. Stop, or the end of the socket, ends the
worker.
"""

from typing import Annotated, Final

import msgspec

from unified_llm.domain.chat import FinishReason, JsonAnswer, Message, Sampling, ToolUse
from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.models import Speculation
from unified_llm.domain.profile import Purpose
from unified_llm.domain.sampling import MAX_TOP_LOGPROBS

PROTOCOL_VERSION: Final = 12
LEAST_LOGPROB: Final = -9999.0
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
MAX_TEXTS: Final = 2048
MAX_DIMENSIONS: Final = 65_536
MAX_NUMBERS: Final = 2**21
"""Of all vectors of one request: 2,048 texts with 1,024 dimensions, 8 MiB."""
LENGTH_BYTES: Final = 4

# What a hostile worker says ends up in D-Bus integers and in sums, so it is bounded on the way in.
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class ProtocolError(Exception):
    """The other end broke the rules above; the connection is of no more use."""


_Texts = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_TEXTS)]
_Dimensions = Annotated[int, msgspec.Meta(ge=1, le=MAX_DIMENSIONS)]
# Little-endian IEEE 754 of 32 bits each.
_Numbers = Annotated[bytes, msgspec.Meta(min_length=4, max_length=4 * MAX_DIMENSIONS)]

SandboxLayer = Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,40}$")]
SandboxLayers = Annotated[tuple[SandboxLayer, ...], msgspec.Meta(max_length=32)]


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AdapterFile(_Struct, frozen=True):
    """A LoRA adapter that is loaded with a model. path: as in Load. scale: how strongly it acts."""

    name: str
    path: str
    scale: float


class Load(_Struct, frozen=True, tag="load"):
    """Load this model. Sent once, first.

    path: the model file, as the worker sees it (an inherited descriptor under /proc/self/fd).
    more_paths: those that follow it, of a model in several files.
    context_tokens: context of each slot. threads: None for one per physical core it may use.
    cache_type: of keys and values, by llama.cpp's name. gpu_layers: how many of the last layers
    each GPU takes, in turn; empty for none. cpu_experts: of how many layers, from the first, the
    routed experts stay in main memory.
    projector: the file that makes vectors of pictures, as path; None for a model that sees none.
    purpose: what the model shall be used for. speculation: whether and how tokens are drafted.
    """

    model: str
    path: str
    context_tokens: int
    slots: int
    threads: int | None
    cache_type: str = "f16"
    gpu_layers: tuple[int, ...] = ()
    cpu_experts: int = 0
    purpose: Purpose = Purpose.CHAT
    more_paths: tuple[str, ...] = ()
    speculation: Speculation = Speculation.OFF
    adapters: tuple[AdapterFile, ...] = ()
    projector: str | None = None


class Rehearse(_Struct, frozen=True, tag="rehearse"):
    """Say what this load would take, and end. Instead of a Load."""

    load: Load


class Generate(_Struct, frozen=True, tag="generate"):
    """Continue this conversation.

    id: chosen by the daemon, never used twice on a connection.
    principal: whose request it is; state kept from it serves nobody else.
    top_logprobs: score each token, and name so many of the likeliest; None for no scores.
    answer: what the text has to look like; None for anything.
    adapter: the one of the load's adapters to be used; None for none.
    begun: what the answer begins with; only what follows it is asked for.
    """

    id: int
    principal: str
    messages: tuple[Message, ...]
    max_tokens: int | None
    stop: tuple[str, ...]
    sampling: Sampling
    top_logprobs: int | None = None
    answer: JsonAnswer | None = None
    tool_use: ToolUse | None = None
    adapter: str | None = None
    begun: str = ""


class Embed(_Struct, frozen=True, tag="embed"):
    """Make a vector of length 1 of each text.

    id: as in Generate. dimensions: the vectors' length, cut from the model's own; None for that.
    """

    id: int
    texts: _Texts
    dimensions: _Dimensions | None = None


class Rank(_Struct, frozen=True, tag="rank"):
    """Judge how well each document answers the query; a Vector of one number for each."""

    id: int
    query: str
    documents: _Texts


class Cancel(_Struct, frozen=True, tag="cancel"):
    """Stop this request. Answered by its Done or Failed; too late is no error."""

    id: int


class DropState(_Struct, frozen=True, tag="drop-state"):
    """Let go of a kept state (`state_channel`), as there is no room for it."""

    state: int


class Pause(_Struct, frozen=True, tag="pause"):
    """Compute no more of this generation until Resume: its reader is slow. Too late is no error.

    What was computed before the Pause arrived still comes.
    """

    id: int


class Resume(_Struct, frozen=True, tag="resume"):
    """Go on with this generation. Too late is no error."""

    id: int


class Stop(_Struct, frozen=True, tag="stop"):
    """End now, whatever is running. saves_states: after what conversations are in has been saved.

    A worker without a channel for states has nothing to save.
    """

    saves_states: bool = False


ToWorker = Load | Rehearse | Generate | Embed | Rank | Cancel | Pause | Resume | DropState | Stop


class Hello(_Struct, frozen=True, tag="hello"):
    """The worker is confined, and its engine can take a Load.

    engine: `llama` or `fake`. build: the engine's version, for measurements and bug reports.
    sandbox: names of the layers it is confined by, such as `landlock-7`. Said before a model file
    is read, so it is true.
    """

    version: int
    pid: int
    engine: str
    build: str
    sandbox: SandboxLayers = ()


class NotConfined(_Struct, frozen=True, tag="not-confined"):
    """The worker lacks a layer of its sandbox that is required, and is about to end.

    layer: `landlock` or `seccomp`. reason: what the kernel said.
    """

    layer: str
    reason: str


class Progress(_Struct, frozen=True, tag="progress"):
    """fraction: 0 to 1 of the model file read."""

    fraction: float


class Loaded(_Struct, frozen=True, tag="loaded"):
    """The model serves.

    context_tokens: per slot, as it really is. memory_bytes: main memory the engine says it took;
    None if it does not say. gpu_bytes: likewise of each GPU. description: architecture, size and
    quantisation in the engine's words.
    """

    context_tokens: _Count
    slots: _Count
    memory_bytes: _Size | None
    description: str
    gpu_bytes: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=64)] = ()


class LoadFailed(_Struct, frozen=True, tag="load-failed"):
    """The model does not serve, and this worker is about to end.

    message: fit for the caller. code: of ModelFailedToLoad, NoRoom or GpuUnusable.
    """

    message: str
    code: str = ModelFailedToLoad.code


class Rehearsed(_Struct, frozen=True, tag="rehearsed"):
    """What the load would take besides weights, and this worker is about to end.

    cache_bytes: caches and states of all layers, wherever they lie. working_bytes: intermediate
    results and output in main memory. gpu_working_bytes: likewise of each GPU.
    """

    cache_bytes: _Size
    working_bytes: _Size
    gpu_working_bytes: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=64)] = ()


class Started(_Struct, frozen=True, tag="started"):
    """The request is in a slot. cached_tokens: prompt tokens that need no computing."""

    id: int
    prompt_tokens: _Count
    cached_tokens: _Count


class Chance(_Struct, frozen=True):
    """As domain.chat.TokenChance."""

    text: str
    data: bytes | None
    logprob: Annotated[float, msgspec.Meta(ge=LEAST_LOGPROB, le=0)]


class Score(_Struct, frozen=True):
    """As domain.chat.TokenLogprob."""

    chosen: Chance
    top: Annotated[tuple[Chance, ...], msgspec.Meta(max_length=MAX_TOP_LOGPROBS)] = ()


class Delta(_Struct, frozen=True, tag="delta"):
    """The next piece of text, in whole characters; not empty unless it has scores.

    scores: of the tokens that begin in it, if they were asked for. is_thought: the model thinks it
    and does not say it.
    """

    id: int
    text: str
    scores: tuple[Score, ...] = ()
    is_thought: bool = False

    def __post_init__(self) -> None:
        if not self.text and not self.scores:
            raise ValueError("a delta that says nothing")


class Call(_Struct, frozen=True, tag="call"):
    """The next piece of a call. index: from 0. name: of the tool, in a call's first piece only."""

    id: int
    index: _Count
    name: str | None = None
    arguments: str = ""


class Vector(_Struct, frozen=True, tag="vector"):
    """What the next text of the request has become."""

    id: int
    numbers: _Numbers


class Done(_Struct, frozen=True, tag="done"):
    """The request ended well. reasoning_tokens: None of a model that does not think.

    accepted_tokens: drafted tokens in the completion; rejected_tokens: those that are not.
    """

    id: int
    reason: FinishReason
    prompt_tokens: _Count
    completion_tokens: _Count
    cached_tokens: _Count
    reasoning_tokens: _Count | None = None
    accepted_tokens: _Count = 0
    rejected_tokens: _Count = 0


class Failed(_Struct, frozen=True, tag="failed"):
    """The request ended badly.

    code: of a class in domain.errors, such as `too-large`. parameter: the field that is at fault.
    """

    id: int
    code: str
    message: str
    parameter: str | None = None


class Heartbeat(_Struct, frozen=True, tag="heartbeat"):
    """Sent by the decode loop itself, about once a second and only while it is busy.

    steps_done: decode steps since start. busy_seconds: how long the present step has run so far.
    """

    steps_done: int
    busy_seconds: float
    active: int
    waiting: int


FromWorker = (
    Hello
    | NotConfined
    | Progress
    | Loaded
    | LoadFailed
    | Rehearsed
    | Started
    | Delta
    | Call
    | Vector
    | Done
    | Failed
    | Heartbeat
)

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """One whole frame. Raises ProtocolError if it would be larger than MAX_FRAME_BYTES."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"frame of {len(body)} bytes; the limit is {MAX_FRAME_BYTES}")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_to_worker(body: bytes) -> ToWorker:
    """The message in a frame's body. Raises ProtocolError."""
    try:
        return _to_worker.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"unreadable frame: {error}") from error


def decode_from_worker(body: bytes) -> FromWorker:
    """The message in a frame's body. Raises ProtocolError."""
    try:
        return _from_worker.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"unreadable frame: {error}") from error
