import base64
import json
import struct
from array import array
from dataclasses import replace

import pytest

from unified_llm.domain.embeddings import Embeddings
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money
from unified_llm.domain.routing import Attempt
from unified_llm.domain.units import Tokens
from unified_llm.wire.openai_embeddings import encode_embeddings, parse_embeddings

VECTORS = Embeddings(
    (array("f", (0.1, -0.2)), array("f", (1 / 3, 1.0))),
    Tokens(9),
    (Attempt(ModelId("far/minilm"), "far"),),
    Money(1_500_000),
)


def body(**fields: object) -> bytes:
    return json.dumps({"model": "minilm", "input": "hello", **fields}).encode()


def test_one_text_is_a_list_of_one() -> None:
    asked = parse_embeddings(body(dimensions=64, user="me"))
    assert (asked.request.texts, asked.request.dimensions) == (("hello",), 64)
    assert not asked.is_base64
    assert parse_embeddings(body(input=["a", "b"])).request.texts == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": None}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 1.5}, "dimensions"),
        ({"truncate": True}, "truncate"),
    ],
)
def test_what_can_not_be_done_is_refused_by_name(fields: dict[str, object], parameter: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_embeddings(body(**fields))
    assert caught.value.parameter == parameter


def test_tokens_are_refused_with_what_to_do_instead() -> None:
    with pytest.raises(InvalidRequest, match="check_embedding_ctx_length"):
        parse_embeddings(body(input=[[1, 2]]))


def test_vectors_as_numbers_are_exact_to_their_32_bits() -> None:
    asked = parse_embeddings(body(input=["a", "b"]))
    answer = json.loads(b"".join(encode_embeddings(asked, VECTORS)))
    assert answer["object"] == "list"
    assert answer["model"] == "minilm"
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert answer["x_unified_llm"] == {
        "cost_dollars": "0.000002",
        "tried": [{"model": "far/minilm", "backend": "far", "code": None}],
    }
    assert [each["index"] for each in answer["data"]] == [0, 1]
    for sent, vector in zip(answer["data"], VECTORS.vectors, strict=True):
        assert array("f", sent["embedding"]) == vector


def test_what_is_not_known_is_null() -> None:
    asked = parse_embeddings(body(x_unified_llm={"local_only": True}))
    assert asked.request.local_only
    found = replace(VECTORS, prompt_tokens=None, cost=None)
    answer = json.loads(b"".join(encode_embeddings(asked, found)))
    assert answer["usage"] is None
    assert answer["x_unified_llm"]["cost_dollars"] is None


def test_vectors_as_base64_are_little_endian() -> None:
    asked = parse_embeddings(body(input=["a", "b"], encoding_format="base64"))
    answer = json.loads(b"".join(encode_embeddings(asked, VECTORS)))
    raw = base64.b64decode(answer["data"][1]["embedding"])
    assert struct.unpack("<2f", raw) == tuple(VECTORS.vectors[1])
