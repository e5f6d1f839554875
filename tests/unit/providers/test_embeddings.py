"""Texts to vectors: what is sent, and what becomes of what comes back."""

import base64
import json
import struct
from array import array
from typing import Any

import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse, EmbeddingCreateParams
from pydantic import TypeAdapter

from tests.unit.providers.official import Official
from unified_llm.domain.embeddings import EmbeddingRequest
from unified_llm.domain.errors import ProviderFailed, ProviderRefused
from unified_llm.domain.models import ModelId
from unified_llm.providers.embeddings import EmbeddingApi, OllamaEmbeddings, OpenAiEmbeddings

PLAIN = EmbeddingRequest(ModelId("far/model"), ("one", "two"))
CUT = EmbeddingRequest(ModelId("far/model"), ("one", "two"), dimensions=2)
OPENAI, OLLAMA = OpenAiEmbeddings(), OllamaEmbeddings()
NAN = base64.b64encode(struct.pack("<2f", 1.0, float("nan"))).decode()


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def listed(*vectors: object, **more: object) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    used = {"prompt_tokens": 7, "total_tokens": 7}
    return {"object": "list", "data": data, "model": "m", "usage": used, **more}


def vectors_of(api: EmbeddingApi, told: object, asked: EmbeddingRequest = PLAIN) -> list[Any]:
    found = api.parse_vectors(json.dumps(told).encode(), asked)
    return [list(vector) for vector in found.vectors]


@pytest.mark.parametrize("asked", [PLAIN, CUT])
def test_what_is_sent_is_what_the_official_clients_send(asked: EmbeddingRequest) -> None:
    for api, path, shape in (
        (OPENAI, "embeddings", EmbeddingCreateParams),
        (OLLAMA, "api/embed", ollama._types.EmbedRequest),
    ):
        outgoing = api.render_texts(asked, "model")
        body = json.loads(outgoing.body)
        assert outgoing.path == path
        assert Official(shape).faults(body) == []
        assert (body["model"], body["input"]) == ("model", ["one", "two"])
        assert body.get("dimensions") == asked.dimensions
    assert json.loads(OPENAI.render_texts(asked, "m").body)["encoding_format"] == "base64"
    assert json.loads(OLLAMA.render_texts(asked, "m").body)["truncate"] is False


def test_openais_answers_are_read_in_both_forms() -> None:
    numbers = listed([0.5, -1], [0.25, 2])
    TypeAdapter(CreateEmbeddingResponse).validate_python(numbers)
    assert vectors_of(OPENAI, numbers) == [[0.5, -1.0], [0.25, 2.0]]
    assert vectors_of(OPENAI, listed(packed(0.5, -1), packed(0.25, 2))) == [[0.5, -1], [0.25, 2]]
    found = OPENAI.parse_vectors(json.dumps(numbers).encode(), PLAIN)
    assert found.prompt_tokens == 7


def test_vectors_belong_to_the_texts_that_they_name() -> None:
    told = listed([1, 0], [0, 1])
    told["data"].reverse()
    assert vectors_of(OPENAI, told) == [[1, 0], [0, 1]]


def test_ollamas_answers_are_read() -> None:
    told = {"model": "m", "embeddings": [[1, 0], [0, 1]], "prompt_eval_count": 5}
    ollama.EmbedResponse.model_validate(told)
    found = OLLAMA.parse_vectors(json.dumps(told).encode(), CUT)
    assert found.vectors == (array("d", (1, 0)), array("d", (0, 1)))
    assert found.prompt_tokens == 5


def test_usage_that_is_not_told_is_unknown() -> None:
    without = listed([1, 0], [0, 1], usage=None)
    assert OPENAI.parse_vectors(json.dumps(without).encode(), PLAIN).prompt_tokens is None
    told = {"embeddings": [[1], [0]]}
    assert OLLAMA.parse_vectors(json.dumps(told).encode(), PLAIN).prompt_tokens is None


@pytest.mark.parametrize("count", [-1, 10**30])
def test_counts_that_can_not_be_are_no_counts(count: int) -> None:
    told = listed([1, 0], [0, 1], usage={"prompt_tokens": count, "total_tokens": 7})
    assert OPENAI.parse_vectors(json.dumps(told).encode(), PLAIN).prompt_tokens is None
    theirs = {"embeddings": [[1], [0]], "prompt_eval_count": count}
    assert OLLAMA.parse_vectors(json.dumps(theirs).encode(), PLAIN).prompt_tokens is None


@pytest.mark.parametrize(
    ("api", "told", "asked"),
    [
        (OPENAI, listed([1, 0]), PLAIN),
        (OPENAI, listed([1, 0], [0, 1], [1, 1]), PLAIN),
        (OPENAI, listed([1, 0], [0, 1, 1]), PLAIN),
        (OPENAI, listed([], []), PLAIN),
        (OPENAI, listed(packed(1, 0), NAN), PLAIN),
        (OPENAI, listed("!!!!", packed(1)), PLAIN),
        (OPENAI, listed("AAA=", packed(1)), PLAIN),
        (OPENAI, listed("é", packed(1)), PLAIN),
        (OPENAI, listed([1e308, 1e308], [0, 1]), PLAIN),
        (OPENAI, {"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}, PLAIN),
        (OPENAI, {"object": "list"}, PLAIN),
        (OLLAMA, {"embeddings": [[1, 0]]}, PLAIN),
        (OLLAMA, {"embeddings": [[1, 0], [0]]}, PLAIN),
        (OLLAMA, {"embeddings": [["1"], [0]]}, PLAIN),
        (OLLAMA, {"error": "no"}, PLAIN),
    ],
)
def test_what_is_no_answer_is_an_error(
    api: EmbeddingApi, told: object, asked: EmbeddingRequest
) -> None:
    with pytest.raises(ProviderFailed):
        vectors_of(api, told, asked)


@pytest.mark.parametrize(
    ("api", "told"),
    [
        (OPENAI, listed([1, 0, 1], [0, 1, 1])),
        (OPENAI, listed(packed(1, 0, 1), packed(0, 1, 1))),
        (OLLAMA, {"embeddings": [[1, 0, 1], [0, 1, 1]]}),
    ],
)
def test_a_server_that_ignores_the_length_asked_for_is_well(
    api: EmbeddingApi, told: object
) -> None:
    with pytest.raises(
        ProviderRefused, match=r"ignored `dimensions`.* 3 numbers, and 2 were"
    ) as it:
        vectors_of(api, told, CUT)
    assert "Leave it out" in it.value.hint
    assert it.value.has_answered


@given(st.binary(max_size=60))
def test_hostile_bytes_are_no_surprise(content: bytes) -> None:
    for api in (OPENAI, OLLAMA):
        with pytest.raises(ProviderFailed):
            api.parse_vectors(content, PLAIN)
