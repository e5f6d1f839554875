import pytest

from tests.fakes.house import JUDGE, MINILM, STRANGER, TINY, USER, House, open_house
from unified_llm.domain.chat import ChatRequest, Message, Role
from unified_llm.domain.embeddings import EmbeddingRequest, RerankRequest
from unified_llm.domain.errors import (
    InvalidRequest,
    NoRoom,
    NotPermitted,
    RequestError,
    TooLarge,
)

TEXTS = EmbeddingRequest(MINILM, ("one", "four"))
PAIRS = RerankRequest(JUDGE, "which?", ("this one", "that"))


def furnish(house: House) -> House:
    house.set_models(TINY, MINILM, JUDGE)
    return house


async def test_vectors_are_made_and_written_down() -> None:
    async with open_house() as opened:
        house = furnish(opened)
        found = await house.embedding.embed(USER, TEXTS, request_id="abc")
        ranking = await house.embedding.rerank(USER, PAIRS)
    assert len(found.vectors) == 2
    assert ranking.scores == (8.0, 4.0)
    first, second = house.trail.records
    assert first["UNIFIED_LLM_ACTION"] == "embed"
    assert first["UNIFIED_LLM_REQUEST"] == "abc"
    assert first["UNIFIED_LLM_PROMPT_TOKENS"] == "6"
    assert second["UNIFIED_LLM_ACTION"] == "rerank"
    assert not any("four" in value or "which" in value for value in first.values())


async def test_who_may_not_is_refused_and_written_down() -> None:
    async with open_house() as opened:
        house = furnish(opened)
        with pytest.raises(NotPermitted):
            await house.embedding.embed(STRANGER, TEXTS)
    assert not house.encoder.asked
    assert house.trail.records[0]["UNIFIED_LLM_RESULT"] == "refused"


async def test_a_model_of_another_kind_is_refused_before_anything_is_loaded() -> None:
    async with open_house() as opened:
        house = furnish(opened)
        with pytest.raises(InvalidRequest, match=r"tiny answers in text; .* makes vectors"):
            await house.embedding.embed(USER, EmbeddingRequest(TINY, ("a",)))
        with pytest.raises(InvalidRequest, match=r"minilm makes vectors of texts; .* judges"):
            await house.embedding.rerank(USER, RerankRequest(MINILM, "q", ("a",)))
        chat = ChatRequest(MINILM, (Message(Role.USER, "Hello"),))
        with pytest.raises(InvalidRequest, match=r"minilm makes vectors of texts; .* text"):
            async with house.inference.open_chat(USER, chat):
                pytest.fail("entered")
    assert not house.encoder.asked
    assert not house.backend.asked


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (EmbeddingRequest(MINILM, ()), InvalidRequest),
        (EmbeddingRequest(MINILM, ("",)), InvalidRequest),
        (EmbeddingRequest(MINILM, ("a\0",)), InvalidRequest),
        (EmbeddingRequest(MINILM, ("a\ud800",)), InvalidRequest),
        (EmbeddingRequest(MINILM, ("a",), dimensions=0), InvalidRequest),
        (EmbeddingRequest(MINILM, ("a",) * 2049), InvalidRequest),
        (EmbeddingRequest(MINILM, ("a", "b" * (4096 * 16 + 1))), TooLarge),
        (EmbeddingRequest(MINILM, ("b" * 65_000,) * 65), TooLarge),
    ],
)
async def test_texts_out_of_bounds_reach_no_model(
    request_: EmbeddingRequest, error: type[RequestError]
) -> None:
    async with open_house() as opened:
        house = furnish(opened)
        with pytest.raises(error):
            await house.embedding.embed(USER, request_)
    assert not house.encoder.asked


@pytest.mark.parametrize(
    "request_",
    [
        RerankRequest(JUDGE, " ", ("a",)),
        RerankRequest(JUDGE, "q\0", ("a",)),
        RerankRequest(JUDGE, "q", ()),
        RerankRequest(JUDGE, "q" * 65_000, ("d" * 1000,)),
    ],
)
async def test_documents_out_of_bounds_reach_no_model(request_: RerankRequest) -> None:
    async with open_house() as opened:
        house = furnish(opened)
        with pytest.raises(RequestError):
            await house.embedding.rerank(USER, request_)
    assert not house.encoder.asked


async def test_a_failure_is_written_down() -> None:
    async with open_house() as opened:
        house = furnish(opened)
        house.encoder.refusal = NoRoom("Too big.")
        with pytest.raises(NoRoom):
            await house.embedding.embed(USER, TEXTS)
    assert house.trail.records[0]["UNIFIED_LLM_CODE"] == "no-room"
