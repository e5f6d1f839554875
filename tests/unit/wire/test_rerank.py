import json

import pytest

from unified_llm.domain.embeddings import Ranking
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.units import Tokens
from unified_llm.wire.rerank import encode_ranking, parse_rerank

RANKING = Ranking((0.5, 2.0, 0.5), Tokens(12))


def body(**fields: object) -> bytes:
    asked = {"model": "judge", "query": "q", "documents": ["a", "b", "c"], **fields}
    return json.dumps(asked).encode()


def results(**fields: object) -> list[dict[str, object]]:
    answer = json.loads(encode_ranking(parse_rerank(body(**fields)), RANKING, "1"))
    assert answer["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
    assert answer["model"] == "judge"
    found = answer["results"]
    assert isinstance(found, list)
    return found


def test_the_best_comes_first_and_equal_ones_keep_their_order() -> None:
    assert results() == [
        {"index": 1, "relevance_score": 2.0},
        {"index": 0, "relevance_score": 0.5},
        {"index": 2, "relevance_score": 0.5},
    ]


def test_only_the_best_are_sent_if_so_asked() -> None:
    assert [each["index"] for each in results(top_n=1)] == [1]
    assert len(results(top_n=99)) == 3


def test_documents_may_be_objects_and_come_back_if_so_asked() -> None:
    found = results(documents=[{"text": "a"}, "b", {"text": "c"}], return_documents=True)
    assert found[0]["document"] == {"text": "b"}
    assert found[1]["document"] == {"text": "a"}


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"top_n": 0}, "top_n"),
        ({"documents": "a"}, "documents"),
        ({"documents": [{"title": "a"}]}, "documents[0]"),
        ({"query": ["a"]}, "query"),
        ({"max_chunks_per_doc": 2}, "max_chunks_per_doc"),
    ],
)
def test_what_can_not_be_done_is_refused_by_name(fields: dict[str, object], parameter: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_rerank(body(**fields))
    assert caught.value.parameter == parameter
