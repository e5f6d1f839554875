"""The official OpenAI client on the socket: what it asks and what it makes of our answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx2
import openai
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from tests.fakes.backend import FakeBackend
from tests.fakes.house import ANSWER, BIG, TINY
from tests.fakes.timers import settle
from tests.unit.surfaces.http.door import OpenDoor, open_door
from unified_llm.domain.errors import NoRoom, RateLimited, WorkerDied
from unified_llm.wire.openai import ChatCompletionShape

T = TypeVar("T")
ASKED: list[Any] = [{"role": "developer", "content": "Brief."}, {"role": "user", "content": "Sky?"}]


@asynccontextmanager
async def open_client(door: OpenDoor) -> AsyncIterator[openai.AsyncOpenAI]:
    transport = httpx2.AsyncHTTPTransport(uds=str(door.path))
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        openai.AsyncOpenAI(
            base_url="http://local/v1", api_key="none", http_client=http, max_retries=0
        ) as client,
    ):
        yield client


async def in_thread(door: OpenDoor, use: Callable[[openai.OpenAI], T]) -> T:
    """Use the blocking client, while the door is served by this thread's loop."""

    def run() -> T:
        with (
            httpx2.Client(transport=httpx2.HTTPTransport(uds=str(door.path))) as http,
            openai.OpenAI(
                base_url="http://local/v1", api_key="none", http_client=http, max_retries=0
            ) as client,
        ):
            return use(client)

    return await asyncio.to_thread(run)


async def test_models_are_listed_and_retrieved(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, open_client(door) as client:
        listed = [model.id async for model in client.models.list()]
        one = await client.models.retrieve(BIG)
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nothing")
    assert listed == [BIG, TINY]
    assert one.object == "model"


async def test_a_completion_is_understood(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, open_client(door) as client:
        answer = await client.chat.completions.create(model=TINY, messages=ASKED, max_tokens=9)
        # What the client echoes of our answer is taken back as history.
        echoed = answer.choices[0].message.model_dump()
        await client.chat.completions.create(model=TINY, messages=[*ASKED, cast(Any, echoed)])
    assert answer.choices[0].message.content == "Blue light."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 7


async def test_a_stream_is_understood(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, open_client(door) as client:
        stream = await client.chat.completions.create(
            model=TINY, messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        await settle()  # the client leaves an inner iterator of its own to the garbage collector
    assert "".join(c.delta.content or "" for k in chunks for c in k.choices) == "Blue light."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2


async def test_the_blocking_client_works_too(tmp_path: Path) -> None:
    def use(client: openai.OpenAI) -> tuple[list[str], str | None, str]:
        listed = [model.id for model in client.models.list()]
        whole = client.chat.completions.create(model=TINY, messages=ASKED)
        pieces = client.chat.completions.create(model=TINY, messages=ASKED, stream=True)
        streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        return listed, whole.choices[0].message.content, streamed

    async with open_door(tmp_path) as door:
        listed, whole, streamed = await in_thread(door, use)
    assert (listed, whole, streamed) == ([BIG, TINY], "Blue light.", "Blue light.")


async def test_an_error_in_a_stream_raises_in_both_clients(tmp_path: Path) -> None:
    backend = FakeBackend([ANSWER[0], WorkerDied("The worker died.")])
    async with open_door(tmp_path, backend) as door:
        async with open_client(door) as client:
            stream = await client.chat.completions.create(model=TINY, messages=ASKED, stream=True)
            with pytest.raises(openai.APIError, match="The worker died") as caught:
                async for _ in stream:
                    pass
        assert caught.value.code == "worker-died"

        def use(client: openai.OpenAI) -> None:
            for _ in client.chat.completions.create(model=TINY, messages=ASKED, stream=True):
                pass

        with pytest.raises(openai.APIError, match="The worker died"):
            await in_thread(door, use)


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (NoRoom("Too big."), openai.InternalServerError),
        (RateLimited("Enough."), openai.RateLimitError),
    ],
)
async def test_errors_become_the_clients_own(
    tmp_path: Path, refusal: Any, expected: type[openai.APIStatusError]
) -> None:
    async with (
        open_door(tmp_path, FakeBackend(refusal=refusal)) as door,
        open_client(door) as client,
    ):
        with pytest.raises(expected) as caught:
            await client.chat.completions.create(model=TINY, messages=ASKED)
    assert caught.value.code == refusal.code
    assert caught.value.request_id is not None


async def test_what_can_not_succeed_is_not_tried_again(tmp_path: Path) -> None:
    backend = FakeBackend(refusal=NoRoom("Too big."))
    async with open_door(tmp_path, backend) as door, open_client(door) as client:
        with pytest.raises(openai.InternalServerError):
            await client.with_options(max_retries=2).chat.completions.create(
                model=TINY, messages=ASKED
            )
    assert len(backend.asked) == 1


async def test_closing_the_stream_stops_the_generation(tmp_path: Path) -> None:
    backend = FakeBackend([ANSWER[0], asyncio.Event()])
    async with open_door(tmp_path, backend) as door, open_client(door) as client:
        stream = await client.chat.completions.create(model=TINY, messages=ASKED, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        while backend.open:
            await asyncio.sleep(0.001)


def test_every_parameter_of_the_client_is_taken_or_refused_by_name() -> None:
    """A parameter we never heard of would be called unknown, which misleads its user."""
    theirs = set(CompletionCreateParamsBase.__annotations__) | {"stream"}
    ours = {
        *("top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n", "ignore_eos"),
        *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"),
        "x_unified_llm",
        *("xtc_probability", "xtc_threshold", "mirostat", "mirostat_tau", "mirostat_eta"),
    }
    assert theirs <= set(ChatCompletionShape.model_fields)
    assert set(ChatCompletionShape.model_fields) - theirs == ours
