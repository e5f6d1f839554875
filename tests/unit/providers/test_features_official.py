"""What is sent for every feature, by the types of each provider's own client."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ollama
import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

from tests.unit.providers.asking import ASKING, CONVERSATION, PLAIN, TOOL
from tests.unit.providers.official import Official
from unified_llm.domain.chat import ChatRequest, ToolChoice, ToolUse
from unified_llm.domain.providers import ProviderKind
from unified_llm.providers.features import SUPPORTED, Feature
from unified_llm.providers.kinds import APIS

# DeepSeek and the servers of the last kind are asked through OpenAI's client, by their own word.
KINDS: dict[Any, tuple[ProviderKind, ...]] = {
    CompletionCreateParamsStreaming: (
        ProviderKind.OPENAI,
        ProviderKind.DEEPSEEK,
        ProviderKind.OPENAI_COMPATIBLE,
    ),
    ResponseCreateParamsStreaming: (ProviderKind.OPENAI_RESPONSES,),
    MessageCreateParamsStreaming: (ProviderKind.ANTHROPIC,),
    ollama._types.ChatRequest: (ProviderKind.OLLAMA,),
}
# What the client sends as `extra_body`: servers agree on it, and OpenAI does not have it.
BESIDE = {"top_k", "min_p"}


def requests_of(kind: ProviderKind) -> Iterator[tuple[str, ChatRequest]]:
    """Everything that `kind` can be asked for, by name."""
    yield "plain", PLAIN
    yield "conversation", replace(PLAIN, messages=CONVERSATION)
    for feature in SUPPORTED[kind] - {Feature.EMBEDDINGS}:
        yield feature.value, ASKING[feature]
    if Feature.FORCED_TOOL in SUPPORTED[kind]:
        named = ToolUse((TOOL,), ToolChoice.REQUIRED, TOOL.name)
        yield "named tool", replace(PLAIN, tool_use=named)


def body_of(kind: ProviderKind, request: ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(APIS[kind]().render_chat(request, "model").body)
    return body


@pytest.mark.slow
@pytest.mark.parametrize("shape", KINDS)
def test_a_feature_is_sent_as_the_official_client_sends_it(shape: Any) -> None:
    official = Official(shape)
    for kind in KINDS[shape]:
        for name, request in requests_of(kind):
            body = body_of(kind, request)
            if kind is ProviderKind.OPENAI_COMPATIBLE:
                beside = {name} & BESIDE
                assert all(body.pop(each, None) for each in beside)
            assert official.faults(body) == [], f"{name} of {kind}"


def test_messages_and_options_are_those_of_ollamas_client() -> None:
    # Its type of a request allows any object in their places.
    message, options = Official(ollama.Message), Official(ollama.Options)
    for name, request in requests_of(ProviderKind.OLLAMA):
        body = body_of(ProviderKind.OLLAMA, request)
        for image in (image for each in body["messages"] for image in each.pop("images", ())):
            # Its type takes files too; this is what is sent of one.
            assert ollama.Image(value=image).model_dump() == image
        assert [fault for each in body["messages"] for fault in message.faults(each)] == [], name
        assert options.faults(body.get("options", {})) == [], name
    assert message.faults({"role": "user", "content": "x", "whim": 1}) != []
    assert options.faults({"whim": 1}) != []


@pytest.mark.slow
@pytest.mark.parametrize("shape", [CompletionCreateParamsStreaming, MessageCreateParamsStreaming])
def test_a_field_too_many_and_a_wrong_type_are_seen(shape: Any) -> None:
    official = Official(shape)
    body = body_of(KINDS[shape][0], replace(PLAIN, messages=CONVERSATION))
    inside = {**body, "messages": [{**body["messages"][0], "whim": 1}]}
    for wrong in ({**body, "whim": 1}, inside, {**body, "model": 7}):
        assert official.faults(wrong) != []


def test_every_kind_is_compared() -> None:
    assert sorted(kind for kinds in KINDS.values() for kind in kinds) == sorted(ProviderKind)
