"""Answers of a provider: their deadlines, their one end, and whose errors they are."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest

from tests.fakes.exchange import FakeExchange
from tests.fakes.timers import FakeTimers
from tests.fakes.upstream import Cut, Script, Stall, open_upstream, reply, stream
from tests.unit.fleet.asking import CALLER, request
from tests.unit.providers.answers import sse
from unified_llm.domain.chat import ChatEvent, Finished, FinishReason, Sampling, TextDelta
from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings
from unified_llm.domain.errors import (
    InvalidRequest,
    LocalOnly,
    ProviderDenied,
    ProviderFailed,
    ProviderOverloaded,
    RequestTimedOut,
    UnifiedLlmError,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.providers import ProviderKind
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Seconds
from unified_llm.providers.api import Exchange, OfferedModel
from unified_llm.providers.backend import READ_AT_ONCE, Deadlines, Provider
from unified_llm.providers.embeddings import OpenAiEmbeddings
from unified_llm.providers.kinds import APIS, EMBEDDING_APIS
from unified_llm.providers.transport import Address, open_transport

ASKED = request("Sky?", model=ModelId("far/deep/model"))
TEXT = sse('{"choices":[{"delta":{"content":"Blue"}}]}')
ROLE = sse('{"choices":[{"delta":{"role":"assistant","content":""}}]}')
END = sse('{"choices":[{"delta":{},"finish_reason":"stop"}]}')
DONE = sse("[DONE]")


def provider(exchange: Exchange, timers: FakeTimers | None = None) -> Provider:
    kind = ProviderKind.OPENAI_COMPATIBLE
    deadlines = Deadlines(Seconds(30), Seconds(60), Seconds(600))
    key = Secret("k3y-canary")
    return Provider("far", kind, APIS[kind](), exchange, timers or FakeTimers(), deadlines, key)


async def heard(from_: Provider, events: list[ChatEvent]) -> None:
    async with from_.chat(ASKED, CALLER) as stream_:
        async for event in stream_:
            events.append(event)  # noqa: PERF401 - what came before an error counts


async def test_the_provider_is_asked_by_its_own_name_for_the_model() -> None:
    exchange = FakeExchange([TEXT, END, DONE])
    await heard(provider(exchange), [])
    ((path, headers, body),) = exchange.asked
    assert path == "chat/completions"
    assert headers["authorization"] == "Bearer k3y-canary"
    assert json.loads(body)["model"] == "deep/model"


async def test_what_it_can_not_do_is_refused_before_anything_is_sent() -> None:
    exchange = FakeExchange()
    asked = replace(ASKED, sampling=Sampling(repeat_penalty=1.1))
    with pytest.raises(InvalidRequest, match="repeat_penalty"):
        async with provider(exchange).chat(asked, CALLER):
            pytest.fail("entered")
    assert exchange.asked == []


@pytest.mark.parametrize("body", [b"", ROLE, TEXT, TEXT + END])
async def test_a_body_that_ends_too_soon_is_no_answer(body: bytes) -> None:
    events: list[ChatEvent] = []
    with pytest.raises(ProviderFailed, match=r"Provider far: .*broke off"):
        await heard(provider(FakeExchange([body])), events)
    assert events == ([TextDelta("Blue")] if b"Blue" in body else [])


async def test_errors_say_whose_they_are_and_nothing_of_the_key() -> None:
    for error in (ProviderDenied("No k3y-canary."), ProviderOverloaded("Busy.")):
        with pytest.raises(type(error)) as caught:
            await heard(provider(FakeExchange(refusal=error)), [])
        assert caught.value.message.startswith("Provider far: ")
    said = sse('{"error":{"message":"k3y-canary is broke","type":"server_error"}}')
    with pytest.raises(ProviderFailed) as caught_later:
        await heard(provider(FakeExchange([TEXT, said])), [])
    assert "canary" not in repr(caught_later.value)
    assert "canary" not in repr(provider(FakeExchange()))


async def outcome(
    script: Script, stall: Stall, *waits: float
) -> tuple[list[ChatEvent], UnifiedLlmError | None]:
    """What is heard when the clock moves on by each of `waits` once the provider has stalled."""
    timers, events = FakeTimers(), list[ChatEvent]()
    failed: UnifiedLlmError | None = None

    async def read(from_: Provider) -> None:
        nonlocal failed
        try:
            await heard(from_, events)
        except UnifiedLlmError as error:
            failed = error

    async with (
        open_upstream(script) as upstream,
        open_transport(Address(upstream.url), None) as transport,
        asyncio.TaskGroup() as group,
    ):
        reading = group.create_task(read(provider(transport, timers)))
        await stall.reached.wait()
        for _ in range(200):
            await asyncio.sleep(0)
        for wait in waits:
            await timers.advance(wait)
        reading.cancel()
    return events, failed


@pytest.mark.parametrize(
    "before", [[], [b": keep-alive\n\n"], [ROLE]], ids=["silence", "comments", "role"]
)
async def test_an_answer_that_does_not_begin_is_given_up(before: list[bytes]) -> None:
    stall = Stall()
    script: Script = stream(*before, stall) if before else [stall]
    assert await outcome(script, stall, 29) == ([], None)
    stall.reached.clear()
    events, error = await outcome(script, stall, 29, 2)
    assert events == []
    assert isinstance(error, RequestTimedOut)
    assert "30 s" in error.message


async def test_an_answer_that_pauses_is_given_up() -> None:
    stall = Stall()
    events, error = await outcome(stream(TEXT, stall), stall, 59, 2)
    assert events == [TextDelta("Blue")]
    assert isinstance(error, RequestTimedOut)
    assert "60 s" in error.message


async def test_an_answer_ends_with_its_last_event_though_the_body_goes_on() -> None:
    stall = Stall()
    events, error = await outcome(stream(TEXT, END, DONE, stall), stall, 1)
    assert error is None
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP


async def test_all_of_an_answer_has_a_limit() -> None:
    timers = FakeTimers()
    from_ = provider(FakeExchange([TEXT] * 20), timers)

    async def read_slowly() -> None:
        async with from_.chat(ASKED, CALLER) as events:
            async for _ in events:
                await timers.freeze(50)

    with pytest.raises(RequestTimedOut, match="600 s"):
        await read_slowly()


async def test_a_slow_reader_is_not_held_against_the_provider() -> None:
    timers = FakeTimers()
    from_ = provider(FakeExchange([TEXT, TEXT, END, DONE]), timers)
    async with from_.chat(ASKED, CALLER) as events:
        got = []
        async for event in events:
            got.append(event)
            await timers.freeze(100)
    assert isinstance(got[-1], Finished)


async def test_a_broken_connection_after_the_first_text_is_one_error() -> None:
    events: list[ChatEvent] = []
    async with (
        open_upstream(stream(TEXT, Cut())) as upstream,
        open_transport(Address(upstream.url), None) as transport,
    ):
        with pytest.raises(ProviderFailed, match="Provider far"):
            await heard(provider(transport), events)
    assert len(events) <= 1


VECTORS = b'{"data":[{"index":0,"embedding":[0.5,1]}],"usage":{"prompt_tokens":3}}'
TEXT_ASKED = EmbeddingRequest(ModelId("far/deep/model"), ("Sky?",))


async def test_vectors_are_asked_for_by_the_providers_own_name() -> None:
    exchange = FakeExchange([VECTORS[:20], VECTORS[20:]])
    found = await provider(exchange).embed(TEXT_ASKED, CALLER)
    assert [list(vector) for vector in found.vectors] == [[0.5, 1.0]]
    assert found.prompt_tokens == 3
    ((path, headers, body),) = exchange.asked
    assert (path, json.loads(body)["model"]) == ("embeddings", "deep/model")
    assert headers["authorization"] == "Bearer k3y-canary"
    assert exchange.open == 0


async def test_texts_that_stay_here_or_have_nobody_to_take_them_are_not_sent() -> None:
    exchange = FakeExchange([VECTORS])
    with pytest.raises(LocalOnly):
        await provider(exchange).embed(replace(TEXT_ASKED, local_only=True), CALLER)
    for kind in (ProviderKind.DEEPSEEK, ProviderKind.ANTHROPIC):
        with pytest.raises(InvalidRequest, match=f"embeddings .* kind {kind.value}"):
            await replace(provider(exchange), kind=kind).embed(TEXT_ASKED, CALLER)
    assert exchange.asked == []


async def test_vectors_that_fail_are_one_error_of_the_provider() -> None:
    for fault in (ProviderOverloaded("Busy, k3y-canary."), ProviderFailed("Broke.")):
        for exchange in (FakeExchange(refusal=fault), FakeExchange([VECTORS[:9], fault])):
            with pytest.raises(type(fault), match="Provider far") as caught:
                await provider(exchange).embed(TEXT_ASKED, CALLER)
            assert "canary" not in str(caught.value)
            assert exchange.open == 0
    with pytest.raises(ProviderFailed, match="Provider far"):
        await provider(FakeExchange([VECTORS[:-1]])).embed(TEXT_ASKED, CALLER)


async def test_vectors_that_do_not_come_are_given_up() -> None:
    timers, never = FakeTimers(), asyncio.Event()
    exchange = FakeExchange([VECTORS[:9], never])

    async def ask() -> None:
        with pytest.raises(RequestTimedOut, match=r"Provider far.*600 s"):
            await provider(exchange, timers).embed(TEXT_ASKED, CALLER)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        await timers.advance(599)
        assert exchange.open == 1
        await timers.advance(2)
    assert exchange.open == 0


class Reading(OpenAiEmbeddings):
    """Tells which thread reads, and reads when it may."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.begun, self.loop = asyncio.Event(), asyncio.get_running_loop()
        self.may_read = threading.Event()

    def parse_vectors(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        self.threads.append(threading.get_ident())
        self.loop.call_soon_threadsafe(self.begun.set)
        assert self.may_read.wait(60)
        return super().parse_vectors(body, request)


LONG_VECTORS = VECTORS.ljust(READ_AT_ONCE + 1)


async def test_many_vectors_are_read_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading()
    reading.may_read.set()
    monkeypatch.setitem(EMBEDDING_APIS, ProviderKind.OPENAI_COMPATIBLE, reading)
    for body in (VECTORS, LONG_VECTORS):
        found = await provider(FakeExchange([body])).embed(TEXT_ASKED, CALLER)
        assert [list(vector) for vector in found.vectors] == [[0.5, 1.0]]
    few, many = reading.threads
    assert few == threading.get_ident() != many
    with pytest.raises(ProviderFailed, match="Provider far"):
        await provider(FakeExchange([LONG_VECTORS[1:]])).embed(TEXT_ASKED, CALLER)


async def test_nobody_waits_for_vectors_that_are_read_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, timers = Reading(), FakeTimers()
    monkeypatch.setitem(EMBEDDING_APIS, ProviderKind.OPENAI_COMPATIBLE, reading)

    async def ask() -> None:
        with pytest.raises(RequestTimedOut, match=r"Provider far.*600 s"):
            await provider(FakeExchange([LONG_VECTORS]), timers).embed(TEXT_ASKED, CALLER)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            await reading.begun.wait()
            await timers.advance(601)
    finally:
        reading.may_read.set()


async def test_models_are_asked_for() -> None:
    found = await provider(FakeExchange([b'{"data":[{"id":"a"}]}'])).offered_models()
    assert found == (OfferedModel("a"),)
    with pytest.raises(ProviderFailed, match="Provider far"):
        await provider(FakeExchange([b"{}"])).offered_models()


async def test_a_list_of_models_that_does_not_come_is_given_up() -> None:
    timers, stall = FakeTimers(), Stall()

    async def ask(from_: Provider) -> None:
        with pytest.raises(RequestTimedOut, match="Provider far"):
            await from_.offered_models()

    async with (
        open_upstream([stall], reply(b"")) as upstream,
        open_transport(Address(upstream.url), None) as transport,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(ask(provider(transport, timers)))
        await stall.reached.wait()
        await timers.advance(31)
