"""Every feature with every kind of provider: it is sent, or refused by its name."""

import json
from dataclasses import fields

import pytest

from tests.unit.providers.asking import ASKING, PLAIN
from unified_llm.domain.chat import ChatRequest, Message
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.providers import CONTINUING, ProviderKind
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
    decided_before = {"model", "adapter", "messages", "local_only", "may_continue"}
    assert {field.name for field in fields(ChatRequest)} == decided_before | asked | {"begun"}
    said_everywhere = {"role", "content", "tool_calls", "tool_call_id"}
    assert {field.name for field in fields(Message)} == said_everywhere | {"images"}


def test_every_kind_has_its_api_and_its_row() -> None:
    assert set(APIS) == set(SUPPORTED) == set(ProviderKind)
    vectors = {kind for kind, features in SUPPORTED.items() if Feature.EMBEDDINGS in features}
    assert set(EMBEDDING_APIS) == vectors


def test_who_goes_on_with_an_answer_is_known_where_plans_are_made() -> None:
    assert {kind for kind in ProviderKind if Feature.CONTINUE in SUPPORTED[kind]} == CONTINUING


def test_what_was_begun_is_the_last_turn_of_the_assistants() -> None:
    for kind in CONTINUING:
        sent = json.loads(APIS[kind]().render_chat(ASKING[Feature.CONTINUE], "model").body)
        last = sent["messages"][-1]
        assert last["role"] == "assistant"
        assert last["content"] in ("Blue li", [{"type": "text", "text": "Blue li"}])
