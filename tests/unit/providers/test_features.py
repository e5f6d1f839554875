"""Every feature with every kind of provider: it is sent, or refused by its name."""

from dataclasses import fields

import pytest

from tests.unit.providers.asking import ASKING, PLAIN
from unified_llm.domain.chat import ChatRequest, Message
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.providers import ProviderKind
from unified_llm.providers.features import SUPPORTED, Feature, asked_features, ensure_supported
from unified_llm.providers.kinds import APIS, EMBEDDING_APIS

EVERY = [(kind, feature) for kind in ProviderKind for feature in ASKING]


@pytest.mark.parametrize(("kind", "feature"), EVERY)
def test_a_feature_is_sent_or_refused_by_name(kind: ProviderKind, feature: str) -> None:
    request = ASKING[feature]
    if feature not in SUPPORTED[kind]:
        first = next(each for each in asked_features(request) if each not in SUPPORTED[kind])
        with pytest.raises(InvalidRequest, match=first) as refused:
            ensure_supported(kind, request)
        assert refused.value.parameter == feature.split(".")[0]
        return
    ensure_supported(kind, request)
    api = APIS[kind]()
    # What is asked for makes a difference in what is sent.
    assert api.render_chat(request, "model") != api.render_chat(PLAIN, "model")


def test_each_request_asks_for_what_it_is_named_after() -> None:
    for name, request in ASKING.items():
        assert name in set(asked_features(request))
    assert list(asked_features(PLAIN)) == []


def test_every_feature_is_tried() -> None:
    of_chats = {feature.value for feature in Feature} - {Feature.EMBEDDINGS.value}
    assert of_chats <= ASKING.keys()


def test_nothing_a_request_can_say_is_passed_over() -> None:
    """A new field of ChatRequest has to be put into the table, or into this list."""
    asked = {"max_tokens", "stop", "sampling", "tool_use", "answer", "top_logprobs", "choices"}
    # Who is asked (an adapter is one of a model of this machine), and what everybody takes.
    decided_before = {"model", "adapter", "messages", "local_only"}
    assert {field.name for field in fields(ChatRequest)} == decided_before | asked
    said_everywhere = {"role", "content", "tool_calls", "tool_call_id"}
    assert {field.name for field in fields(Message)} == said_everywhere | {"images"}


def test_every_kind_has_its_api_and_its_row() -> None:
    assert set(APIS) == set(SUPPORTED) == set(ProviderKind)
    vectors = {kind for kind, features in SUPPORTED.items() if Feature.EMBEDDINGS in features}
    assert set(EMBEDDING_APIS) == vectors
