from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.house import (
    JUDGE,
    MINILM,
    OTHER_USER,
    STRANGER,
    TINY,
    USER,
    House,
    open_house,
)
from tests.fakes.vectors import FakeVectors
from unified_llm.domain.chat import ChatRequest, Message, Role
from unified_llm.domain.embeddings import EmbeddingRequest, RerankRequest
from unified_llm.domain.errors import (
    InvalidRequest,
    LocalOnly,
    NoRoom,
    NotPermitted,
    ProviderDown,
    RequestError,
    TooLarge,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.providers import ProviderKind, RemoteModel
from unified_llm.domain.routing import AUTO, Route, Strategy
from unified_llm.routing.routes import RouteBook

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


REMOTE = RemoteModel(ModelId("far/vectors"), "far", ProviderKind.OPENAI, "vectors")
FAR_TEXTS = EmbeddingRequest(REMOTE.id, ("one", "four"))
ALIAS, PAIR = ModelId("embedder"), ModelId("pair")
BOOK = RouteBook(
    routes={PAIR: Route(PAIR, Strategy.IN_ORDER, (MINILM, REMOTE.id))},
    aliases={ALIAS: REMOTE.id},
    fallbacks={REMOTE.id: (MINILM,)},
    local_only_callers=frozenset({OTHER_USER.principal}),
)


@asynccontextmanager
async def open_far(away: FakeVectors) -> AsyncIterator[House]:
    """A provider that makes vectors beside the models of this machine."""
    async with open_house(
        providers={"far": FakeBackend()}, embedders={"far": away}, book=BOOK
    ) as opened:
        opened.models.replace_remote({REMOTE.id: REMOTE})
        yield furnish(opened)


async def test_a_providers_model_makes_vectors_and_the_audit_log_says_who_saw_the_texts() -> None:
    away = FakeVectors()
    async with open_far(away) as house:
        found = await house.embedding.embed(USER, FAR_TEXTS)
        await house.embedding.embed(USER, replace(FAR_TEXTS, model=ALIAS))
    assert len(found.vectors) == 2
    assert [request.model for request, _ in away.asked] == [REMOTE.id, REMOTE.id]
    assert house.encoder.asked == []
    for record in house.trail.records:
        assert record["UNIFIED_LLM_BACKEND"] == "far"
        assert record["UNIFIED_LLM_PROMPT_TOKENS"] == "6"


async def test_no_other_model_makes_vectors_in_its_place() -> None:
    away = FakeVectors()
    away.refusal = ProviderDown("Down.")
    async with open_far(away) as house:
        with pytest.raises(ProviderDown):
            await house.embedding.embed(USER, FAR_TEXTS)
        for name in (PAIR, AUTO):
            with pytest.raises(InvalidRequest, match="can not be compared"):
                await house.embedding.embed(USER, replace(FAR_TEXTS, model=name))
    assert len(away.asked) == 1
    assert house.encoder.asked == []
    assert house.trail.records[0]["UNIFIED_LLM_TRIED"] == "far/vectors=provider-down"


async def test_texts_that_stay_here_are_sent_to_no_provider() -> None:
    away = FakeVectors()
    async with open_far(away) as house:
        with pytest.raises(LocalOnly, match="the request"):
            await house.embedding.embed(USER, replace(FAR_TEXTS, local_only=True))
        with pytest.raises(LocalOnly, match="a rule for uid:1001"):
            await house.embedding.embed(OTHER_USER, FAR_TEXTS)
        await house.embedding.embed(USER, replace(TEXTS, local_only=True))
    assert away.asked == []


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
