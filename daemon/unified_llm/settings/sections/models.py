"""The section `models` and the defaults of its entries."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from unified_llm.domain.models import MODEL_ID_PATTERN, ModelId, is_adapter_name, is_model_id
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.settings.sections.fields import DAY, AbsolutePath, Section, about

Slots = Annotated[int, Field(ge=1, le=64)]
Threads = Annotated[int, Field(ge=1, le=1024)]
ContextTokens = Annotated[Tokens, Field(ge=256, le=1_048_576)]
CacheTypeName = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
Speculate = Literal["auto", "off", "prompt-lookup"]
KeepAlive = Annotated[Seconds, Field(ge=1, le=365 * DAY)]
# All of them are in memory with their model, and each is a descriptor of the worker's.
MAX_ADAPTERS: Final = 16


class DefaultsSettings(Section):
    """How a model is run unless its own entry says otherwise."""

    context_tokens: ContextTokens = Field(
        default=Tokens(4096),
        description=(
            "Context of one conversation. Capped to what the model was trained with, and to 2048 "
            "where the model makes vectors of whole texts."
        ),
        json_schema_extra=about("tokens", "room for a chat without gigabytes of KV cache"),
    )
    slots: Slots = Field(
        default=4,
        description="Conversations decoded at the same time; each has a context of its own.",
        json_schema_extra=about("conversations", "a few people at once; memory grows with each"),
    )
    threads: Threads | None = Field(
        default=None,
        description="CPU threads of the worker; null for one per physical core it may use.",
        json_schema_extra=about("threads", "hyper-threads slow the decoding down"),
    )
    keep_alive_seconds: KeepAlive | None = Field(
        default=Seconds(300),
        description="Idle time after which the model leaves memory; null to keep it.",
        json_schema_extra=about("seconds", "outlasts a pause in a conversation"),
    )
    cache_type: CacheTypeName = Field(
        default="f16",
        description="How keys and values are kept; smaller ones save memory and lose precision.",
        json_schema_extra=about(reason="loses nothing"),
    )
    minimum_context_tokens: ContextTokens | None = Field(
        default=None,
        description="Down to which the context is cut where memory is short; null for never.",
        json_schema_extra=about("tokens", "a conversation that no longer fits is lost"),
    )
    gpu: Literal["auto", "off", "required"] = Field(
        default="auto",
        description=(
            "Whether the model is computed on GPUs: as far as it fits there, not at all, or rather "
            "not loaded than computed in main memory."
        ),
        json_schema_extra=about(reason="slow is better than not at all, and it is told"),
    )
    speculation: Speculate = Field(
        default="auto",
        description=(
            "Whether tokens are drafted from what came before in the same conversation "
            "(`prompt-lookup`), and computed before it is known that they come next: `auto` does "
            "so where it measures faster. It changes the speed of answers, not their text."
        ),
        json_schema_extra=about(reason="what quotes comes faster, the rest no slower"),
    )
    priority: Annotated[int, Field(ge=0, le=100)] = Field(
        default=50,
        description=(
            "When other programs need memory, the model with the lowest priority leaves first; of "
            "models that wait for memory the one with the highest is loaded first, within "
            "`scheduler.ageing_seconds`. How it weighs between models: `scheduler.eviction`."
        ),
        json_schema_extra=about("points", "room on both sides"),
    )


def _require_adapter_name(name: str) -> str:
    if not is_adapter_name(name):
        raise PydanticCustomError("adapter_name", "is not the name of an adapter")
    return name


class AdapterSettings(Section):
    """A LoRA adapter of the model. Who asks for `<model>:<name>` is answered with it."""

    path: AbsolutePath = Field(
        description=(
            "The adapter's GGUF file, made for this model. Nobody can name another one in a "
            "request."
        ),
        json_schema_extra=about(),
    )
    scale: Annotated[float, Field(gt=0, le=10)] = Field(
        default=1.0,
        description="How strongly it is applied.",
        json_schema_extra=about("times", "as much as it was trained to"),
    )


class ModelSettings(Section):
    """One model. What is left out is taken from `defaults`."""

    path: AbsolutePath = Field(
        description="The model's GGUF file. A symbolic link is followed.",
        json_schema_extra=about(),
    )
    context_tokens: ContextTokens | None = Field(
        default=None,
        description="Context of one conversation; null for the default.",
        json_schema_extra=about("tokens", default="as in `defaults`"),
    )
    slots: Slots | None = Field(
        default=None,
        description="Conversations decoded at the same time; null for the default.",
        json_schema_extra=about("conversations", default="as in `defaults`"),
    )
    threads: Threads | None = Field(
        default=None,
        description="CPU threads of the worker; null for the default.",
        json_schema_extra=about("threads", default="as in `defaults`"),
    )
    keep_alive_seconds: KeepAlive | None = Field(
        default=None,
        description=(
            "Idle time after which the model leaves memory. Left out, the default holds; "
            "an explicit null keeps the model."
        ),
        json_schema_extra=about("seconds", default="as in `defaults`"),
    )
    cache_type: CacheTypeName | None = Field(
        default=None,
        description="How keys and values are kept; null for the default.",
        json_schema_extra=about(default="as in `defaults`"),
    )
    minimum_context_tokens: ContextTokens | None = Field(
        default=None,
        description="Down to which the context is cut where memory is short; null for the default.",
        json_schema_extra=about("tokens", default="as in `defaults`"),
    )
    gpu: Literal["auto", "off", "required"] | None = Field(
        default=None,
        description="Whether the model is computed on GPUs; null for the default.",
        json_schema_extra=about(default="as in `defaults`"),
    )
    speculation: Speculate | None = Field(
        default=None,
        description="Whether tokens are drafted; null for the default.",
        json_schema_extra=about(default="as in `defaults`"),
    )
    priority: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None,
        description=(
            "When other programs need memory, the lowest leaves first; of models that wait for it "
            "the highest is loaded first; null for the default."
        ),
        json_schema_extra=about("points", default="as in `defaults`"),
    )
    pinned: bool = Field(
        default=False,
        description="Never evict this model to make room for another.",
        json_schema_extra=about(reason="a pin takes memory from everybody else"),
    )
    preload: bool = Field(
        default=False,
        description=(
            "Load this model when the daemon starts, before anybody asks for it. It leaves memory "
            "like any other."
        ),
        json_schema_extra=about(reason="memory is for what is asked for"),
    )
    projector: AbsolutePath | None = Field(
        default=None,
        description=(
            "GGUF file (mmproj) that makes the model see images, made for this model; null for a "
            "model that reads text only."
        ),
        json_schema_extra=about(reason="most models read text only"),
    )
    adapters: dict[Annotated[str, AfterValidator(_require_adapter_name)], AdapterSettings] = Field(
        default={}, description="LoRA adapters by name; they are loaded with the model."
    )

    @model_validator(mode="after")
    def _has_few_adapters(self) -> Self:
        if len(self.adapters) > MAX_ADAPTERS:
            raise PydanticCustomError(
                "adapter_count",
                "has {count} adapters; at most {most} are loaded with a model",
                {"count": len(self.adapters), "most": MAX_ADAPTERS},
            )
        return self

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


def require_model_id(name: str) -> str:
    """`name`, if it may name a model. Raises PydanticCustomError."""
    if not is_model_id(name):
        raise PydanticCustomError("model_id", "is not a model id")
    return name


_Models = dict[Annotated[str, AfterValidator(require_model_id)], ModelSettings]


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
        json_schema_extra=about(reason="the state directory of the service"),
    )

    @property
    def configured(self) -> Mapping[ModelId, ModelSettings]:
        """The entries by model id, in the order of the file."""
        entries = {ModelId(name): entry for name, entry in self.__pydantic_extra__.items()}
        return MappingProxyType(entries)
