"""Every setting there is: its type, unit, range and default, and the reason for the default.

This is the one declaration. The messages of `load`, the JSON schema and the reference page are all
made from it, so a setting is complete when it is written here.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from unified_llm.domain.models import MODEL_ID_PATTERN, ModelId, is_model_id
from unified_llm.domain.units import Bytes, Seconds, Tokens

_DAY = 86_400
_KIB = 1024
_MIB = 1024 * _KIB

# sun_path holds 108 bytes with its terminating NUL (unix(7)).
MAX_SOCKET_PATH_BYTES = 107


def _about(unit: str = "", reason: str = "", *, form: str = "", default: str = "") -> JsonDict:
    """What a field says of itself beyond pydantic's own words.

    reason: why the default is what it is. form: what the value looks like, where its type does not
    tell; default: likewise for a default that depends.
    """
    return {"unit": unit, "reason": reason, "form": form, "default_text": default}


def _require_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise PydanticCustomError("relative_path", "{path} is not absolute", {"path": str(path)})
    return path


def _require_fitting_socket(path: Path) -> Path:
    size = len(str(path).encode())
    if size > MAX_SOCKET_PATH_BYTES:
        raise PydanticCustomError(
            "long_socket_path",
            "the path has {size} bytes, and the kernel allows {limit} for a socket",
            {"size": size, "limit": MAX_SOCKET_PATH_BYTES},
        )
    return path


# Not strict, because a path arrives as text.
AbsolutePath = Annotated[
    Path,
    Strict(False),
    AfterValidator(_require_absolute),
    Field(json_schema_extra={"pattern": "^/"}),
]
SocketPath = Annotated[AbsolutePath, AfterValidator(_require_fitting_socket)]
Slots = Annotated[int, Field(ge=1, le=64)]
Threads = Annotated[int, Field(ge=1, le=1024)]
ContextTokens = Annotated[Tokens, Field(ge=256, le=1_048_576)]
KeepAlive = Annotated[Seconds, Field(ge=1, le=365 * _DAY)]
Deadline = Annotated[Seconds, Field(gt=0, le=_DAY)]
Connections = Annotated[int, Field(ge=1, le=65_536)]


class Section(BaseModel):
    """A closed, frozen group of settings; a number in quotes is text, and refused as such."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DefaultsSettings(Section):
    """How a model is run unless its own entry says otherwise."""

    context_tokens: ContextTokens = Field(
        default=Tokens(4096),
        description="Context of one conversation. Capped to what the model was trained with.",
        json_schema_extra=_about("tokens", "room for a chat without gigabytes of KV cache"),
    )
    slots: Slots = Field(
        default=4,
        description="Conversations decoded at the same time; each has a context of its own.",
        json_schema_extra=_about("conversations", "a few people at once; memory grows with each"),
    )
    threads: Threads | None = Field(
        default=None,
        description="CPU threads of the worker; null for one per physical core it may use.",
        json_schema_extra=_about("threads", "hyper-threads slow the decoding down"),
    )
    keep_alive_seconds: KeepAlive | None = Field(
        default=Seconds(300),
        description="Idle time after which the model leaves memory; null to keep it.",
        json_schema_extra=_about("seconds", "outlasts a pause in a conversation"),
    )


class ModelSettings(Section):
    """One model. What is left out is taken from `defaults`."""

    path: AbsolutePath = Field(
        description="The model's GGUF file. A symbolic link is followed.",
        json_schema_extra=_about(),
    )
    context_tokens: ContextTokens | None = Field(
        default=None,
        description="Context of one conversation; null for the default.",
        json_schema_extra=_about("tokens", default="as in `defaults`"),
    )
    slots: Slots | None = Field(
        default=None,
        description="Conversations decoded at the same time; null for the default.",
        json_schema_extra=_about("conversations", default="as in `defaults`"),
    )
    threads: Threads | None = Field(
        default=None,
        description="CPU threads of the worker; null for the default.",
        json_schema_extra=_about("threads", default="as in `defaults`"),
    )
    keep_alive_seconds: KeepAlive | None = Field(
        default=None,
        description=(
            "Idle time after which the model leaves memory. Left out, the default holds; "
            "an explicit null keeps the model."
        ),
        json_schema_extra=_about("seconds", default="as in `defaults`"),
    )
    pinned: bool = Field(
        default=False,
        description="Never evict this model to make room for another.",
        json_schema_extra=_about(reason="a pin takes memory from everybody else"),
    )

    def resolved(self, defaults: DefaultsSettings) -> DefaultsSettings:
        """How this model is run: its own settings over `defaults`."""
        own = {
            name: value
            for name in DefaultsSettings.model_fields
            if (value := getattr(self, name)) is not None
        }
        if "keep_alive_seconds" in self.model_fields_set:
            own["keep_alive_seconds"] = self.keep_alive_seconds
        return defaults.model_copy(update=own)


def _require_model_id(name: str) -> str:
    if not is_model_id(name):
        raise PydanticCustomError("model_id", "is not a model id")
    return name


_Models = dict[Annotated[str, AfterValidator(_require_model_id)], ModelSettings]


class ModelsSettings(Section):
    """Where models come from: a scanned directory, and one entry per model id."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"propertyNames": {"pattern": f"^{MODEL_ID_PATTERN}$"}},
    )
    # Pydantic's way of typing the entries that have no field of their own.
    __pydantic_extra__: _Models = Field(init=False)  # type: ignore[mutable-override]

    directory: AbsolutePath | None = Field(
        default=Path("/var/lib/unified-llm/models"),
        description=(
            "Searched for *.gguf files, four levels deep; null for no search. "
            "The name is reserved: no model can be called `directory`."
        ),
        json_schema_extra=_about(reason="the state directory of the service"),
    )

    @property
    def configured(self) -> Mapping[ModelId, ModelSettings]:
        """The entries by model id, in the order of the file."""
        entries = {ModelId(name): entry for name, entry in self.__pydantic_extra__.items()}
        return MappingProxyType(entries)


class MemorySettings(Section):
    """What the models may take together."""

    ram_budget_bytes: Annotated[Bytes, Field(ge=64 * _MIB, le=2**53)] | None = Field(
        default=None,
        description="Main memory for all models; null for 80 % of what the service may use.",
        json_schema_extra=_about("bytes", "leaves a fifth to the page cache and everything else"),
    )


class SchedulerSettings(Section):
    """How long requests and models wait for each other."""

    queue_limit: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=64,
        description="Requests that may wait for one model; the next one is refused.",
        json_schema_extra=_about("requests", "longer queues only turn refusals into timeouts"),
    )
    queue_seconds: Deadline = Field(
        default=Seconds(300),
        description="Longest wait of a request for its model to serve it, its loading included.",
        json_schema_extra=_about("seconds", "a large model from a slow disk takes minutes"),
    )
    load_seconds: Deadline = Field(
        default=Seconds(600),
        description="Longest time a worker may take to load its model.",
        json_schema_extra=_about("seconds", "60 GB from a slow disk at 100 MB/s"),
    )
    drain_seconds: Deadline = Field(
        default=Seconds(30),
        description="Time running answers get to end before their model is unloaded.",
        json_schema_extra=_about("seconds", "most answers end within it"),
    )
    stop_seconds: Deadline = Field(
        default=Seconds(5),
        description="Time a worker gets to end by itself before it is killed.",
        json_schema_extra=_about("seconds", "it holds nothing that must be written"),
    )


class WorkerSettings(Section):
    """The process that runs one model."""

    engine: Literal["llama", "fake"] = Field(
        default="llama",
        description="`llama` runs the model; `fake` answers by rule, for tests of clients.",
        json_schema_extra=_about(reason="the real one"),
    )
    sandbox_required: bool = Field(
        default=True,
        description=(
            "Whether a kernel without Landlock or seccomp is an error. "
            "Otherwise workers run in what sandbox there is."
        ),
        json_schema_extra=_about(reason="a model file can take its worker over"),
    )
    stall_seconds: Deadline = Field(
        default=Seconds(30),
        description="A busy worker that finishes no decode step for so long is replaced.",
        json_schema_extra=_about("seconds", "well above one step of a long prompt on a slow CPU"),
    )


class RequestsSettings(Section):
    """Deadlines of one answer."""

    first_event_seconds: Deadline = Field(
        default=Seconds(30),
        description="Longest wait for the first token, from the moment the model serves.",
        json_schema_extra=_about("seconds", "reads 4096 tokens of prompt at 140 per second"),
    )
    between_events_seconds: Deadline = Field(
        default=Seconds(30),
        description="Longest wait between two tokens.",
        json_schema_extra=_about("seconds", "tokens come many per second; so long is a fault"),
    )
    total_seconds: Deadline = Field(
        default=Seconds(600),
        description="Longest time of a whole answer.",
        json_schema_extra=_about("seconds", "4096 tokens at 7 tokens per second"),
    )


class SocketSettings(Section):
    """The Unix socket that speaks the OpenAI API.

    When systemd hands the socket over, path, mode and group are those of its unit.
    """

    path: SocketPath = Field(
        default=Path("/run/unified-llm/api.sock"),
        description="Where the socket is.",
        json_schema_extra=_about(reason="the runtime directory of the service"),
    )
    mode: str = Field(
        default="0660",
        pattern="^0[0-7]{3}$",
        description="Permissions of the socket.",
        json_schema_extra=_about(
            reason="the owner and the group; nobody else",
            form='four octal digits in quotes, such as "0660"',
        ),
    )
    group: Annotated[str, Field(min_length=1, max_length=32)] | None = Field(
        default="unified-llm",
        description="Group the socket is given to; null to leave it as created.",
        json_schema_extra=_about(reason="its members may use the models"),
    )
    max_body_bytes: Annotated[Bytes, Field(ge=_KIB, le=256 * _MIB)] = Field(
        default=Bytes(8 * _MIB),
        description="Largest body of a request.",
        json_schema_extra=_about("bytes", "a million tokens of text with room to spare"),
    )
    max_connections: Connections = Field(
        default=1024,
        description="Connections open at the same time.",
        json_schema_extra=_about("connections", "each costs a descriptor and some buffers"),
    )
    max_connections_per_user: Connections = Field(
        default=64,
        description="Connections one user may have open at the same time.",
        json_schema_extra=_about("connections", "one user cannot shut the others out"),
    )
    head_seconds: Deadline = Field(
        default=Seconds(10),
        description="Time a client gets to send the head of a request.",
        json_schema_extra=_about("seconds", "local clients need milliseconds"),
    )
    body_seconds: Deadline = Field(
        default=Seconds(30),
        description="Time a client gets to send the body of a request.",
        json_schema_extra=_about("seconds", "local clients need milliseconds; pipes may wait"),
    )
    idle_seconds: Deadline = Field(
        default=Seconds(60),
        description="Time a connection may stay open without a request.",
        json_schema_extra=_about("seconds", "longer than the pools of common clients keep one"),
    )
    write_seconds: Deadline = Field(
        default=Seconds(30),
        description="Longest time a client may leave an answer unread.",
        json_schema_extra=_about("seconds", "a reader so slow holds a slot from others"),
    )


class DbusSettings(Section):
    """The desktop's door."""

    enabled: bool = Field(
        default=True,
        description="Whether the daemon is on D-Bus at all.",
        json_schema_extra=_about(reason="desktop apps find the models there"),
    )
    address: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="D-Bus address of the bus; null for the system bus.",
        json_schema_extra=_about(reason="polkit and the shipped policy are on the system bus"),
    )


class LogSettings(Section):
    """What goes to the journal. Prompts and answers never do, at any level."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe level that is logged.",
        json_schema_extra=_about(reason="loads, unloads and faults, not every request"),
    )


class Settings(Section):
    """The whole file."""

    models: ModelsSettings = ModelsSettings()
    defaults: DefaultsSettings = DefaultsSettings()
    memory: MemorySettings = MemorySettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    worker: WorkerSettings = WorkerSettings()
    requests: RequestsSettings = RequestsSettings()
    socket: SocketSettings = SocketSettings()
    dbus: DbusSettings = DbusSettings()
    log: LogSettings = LogSettings()
