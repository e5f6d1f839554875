"""What each kind of provider can be asked for: the one table. What is not in it is refused by name.

An option that is silently left out changes answers, so it is never left out.
"""

from collections.abc import Iterator
from dataclasses import fields
from enum import StrEnum
from typing import Final

from unified_llm.domain.chat import ChatRequest, Sampling, ToolChoice, ToolUse
from unified_llm.domain.errors import InvalidRequest, ProviderRefused
from unified_llm.domain.models import ModelId
from unified_llm.domain.providers import ProviderKind


class Feature(StrEnum):
    """Something a request may ask for, by the name that clients give it."""

    MAX_TOKENS = "max_tokens"
    STOP = "stop"
    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    TOP_K = "top_k"
    MIN_P = "min_p"
    REPEAT_PENALTY = "repeat_penalty"
    FREQUENCY_PENALTY = "frequency_penalty"
    PRESENCE_PENALTY = "presence_penalty"
    SEED = "seed"
    TOOLS = "tools"
    FORCED_TOOL = "tool_choice"
    ONE_TOOL = "parallel_tool_calls"
    TOP_LOGPROBS = "top_logprobs"
    CHOICES = "n"
    JSON_OBJECT = "response_format.json_object"
    JSON_SCHEMA = "response_format.json_schema"
    CONTINUE = "x_unified_llm.continue"  # an answer that another has begun
    IMAGES = "image_url"
    IMAGE_DETAIL = "image_url.detail"
    EMBEDDINGS = "embeddings"


_F = Feature
_EVERYWHERE: Final = frozenset({_F.MAX_TOKENS, _F.STOP, _F.TOOLS})
_CHAT_COMPLETIONS: Final = _EVERYWHERE | {
    _F.TEMPERATURE, _F.TOP_P, _F.FREQUENCY_PENALTY, _F.PRESENCE_PENALTY, _F.FORCED_TOOL,
    _F.JSON_OBJECT,
}  # fmt: skip

_WITHOUT: Final = "Leave it out, or ask another model."
_SAMPLING_DEFAULTS: Final = {field.name: field.default for field in fields(Sampling)}

SUPPORTED: Final[dict[ProviderKind, frozenset[Feature]]] = {
    ProviderKind.OPENAI: _CHAT_COMPLETIONS
    | {_F.SEED, _F.ONE_TOOL, _F.JSON_SCHEMA, _F.IMAGES, _F.IMAGE_DETAIL, _F.CHOICES}
    | {_F.EMBEDDINGS},
    ProviderKind.OPENAI_RESPONSES: frozenset(
        {_F.MAX_TOKENS, _F.TOOLS, _F.TEMPERATURE, _F.TOP_P, _F.FORCED_TOOL, _F.ONE_TOOL}
        | {_F.JSON_OBJECT, _F.JSON_SCHEMA, _F.IMAGES, _F.IMAGE_DETAIL, _F.EMBEDDINGS}
    ),
    ProviderKind.DEEPSEEK: _CHAT_COMPLETIONS,
    # Its official client (2.12) has no field for any way of sampling.
    ProviderKind.ANTHROPIC: _EVERYWHERE
    | {_F.FORCED_TOOL, _F.ONE_TOOL, _F.JSON_SCHEMA, _F.IMAGES, _F.CONTINUE},
    ProviderKind.OLLAMA: _EVERYWHERE
    | {_F.TEMPERATURE, _F.TOP_P, _F.TOP_K, _F.REPEAT_PENALTY, _F.SEED}
    | {_F.FREQUENCY_PENALTY, _F.PRESENCE_PENALTY, _F.JSON_OBJECT, _F.JSON_SCHEMA, _F.IMAGES}
    | {_F.EMBEDDINGS, _F.CONTINUE},
    # Servers of this kind agree on top_k and min_p; a repeat penalty has another name with each.
    ProviderKind.OPENAI_COMPATIBLE: _CHAT_COMPLETIONS
    | {_F.SEED, _F.ONE_TOOL, _F.JSON_SCHEMA, _F.TOP_K, _F.MIN_P, _F.IMAGES, _F.IMAGE_DETAIL}
    | {_F.CHOICES, _F.EMBEDDINGS},
}


def set_sampling(sampling: Sampling) -> dict[str, object]:
    """What is set of `sampling`, by the names that OpenAI and the domain share."""
    told = {name: getattr(sampling, name) for name in _SAMPLING_DEFAULTS}
    return {name: value for name, value in told.items() if value != _SAMPLING_DEFAULTS[name]}


def asked_features(request: ChatRequest) -> Iterator[str]:
    """Everything `request` asks for beyond an answer to its messages, by the names of Feature.

    A way of sampling that has no Feature yet is no provider's, and is refused like the others.
    """
    if request.max_tokens is not None:
        yield Feature.MAX_TOKENS
    if request.stop:
        yield Feature.STOP
    yield from set_sampling(request.sampling)
    if request.tool_use is not None:
        yield from _features_of(request.tool_use)
    if request.top_logprobs is not None:
        yield Feature.TOP_LOGPROBS
    if request.choices != 1:
        yield Feature.CHOICES
    if request.answer is not None:
        is_any = request.answer.schema is None
        yield Feature.JSON_OBJECT if is_any else Feature.JSON_SCHEMA
    yield from _asked_of_images(request)


def _asked_of_images(request: ChatRequest) -> Iterator[str]:
    images = [image for message in request.messages for image in message.images]
    if images:
        yield Feature.IMAGES
    if any(image.detail for image in images):
        yield Feature.IMAGE_DETAIL
    if request.begun:
        yield Feature.CONTINUE


def _features_of(use: ToolUse) -> Iterator[str]:
    yield Feature.TOOLS
    if use.choice is ToolChoice.REQUIRED:
        yield Feature.FORCED_TOOL
    if not use.is_parallel:
        yield Feature.ONE_TOOL


def ensure_supported(kind: ProviderKind, request: ChatRequest) -> None:
    """Raise InvalidRequest, naming the option, if `kind` can not do what `request` asks for."""
    for feature in asked_features(request):
        if feature not in SUPPORTED[kind]:
            raise not_taken(kind, request.model, feature, parameter=feature.partition(".")[0])


def not_taken(
    kind: ProviderKind, model: ModelId, feature: str, *, parameter: str
) -> InvalidRequest:
    """The refusal of something that `kind` can not do."""
    return InvalidRequest(
        f"{feature} is not possible with {model}: providers of kind {kind.value} do not take it.",
        hint=_WITHOUT,
        parameter=parameter,
    )


def ignored(option: str, fact: str) -> ProviderRefused:
    """The end of an answer that came as if `option` had not been asked for, as `fact` shows.

    No fault of the provider's: its kind takes the option, this server of it does not.
    """
    told = f"The provider has ignored `{option}`: {fact}."
    return ProviderRefused(told, hint=_WITHOUT, has_answered=True)
