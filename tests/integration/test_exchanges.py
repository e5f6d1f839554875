"""The answers in tests/exchanges, by the providers' own clients: their types, and what they read.

A body that the official client reads as we do is no picture of our own reader.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from anthropic.types import RawMessageStreamEvent
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from tests.fakes.upstream import open_upstream, stream
from unified_llm.domain.answers import Answer, AnswerBuilder
from unified_llm.domain.providers import ProviderKind
from unified_llm.providers.framing import SseFramer
from unified_llm.providers.kinds import APIS

EXCHANGES = Path(__file__).parents[1] / "exchanges"
HELLO: list[Any] = [{"role": "user", "content": "Why?"}]
CHAT_COMPLETIONS = ["openai.sse", "deepseek-chat.sse", "deepseek-reasoner.sse", "vllm.sse"]
MESSAGES = ["anthropic.sse", "anthropic-tool.sse"]
RESPONSES = ["openai-responses.sse", "openai-responses-tool.sse"]
LINES = ["ollama.ndjson", "ollama-uncounted.ndjson"]


def body(name: str) -> bytes:
    return (EXCHANGES / name).read_bytes()


def events(name: str) -> list[dict[str, Any]]:
    raw = [event.data for event in SseFramer().feed(body(name))]
    return [json.loads(data) for data in raw if data != b"[DONE]"]


def read_by_us(name: str, kind: ProviderKind) -> Answer:
    builder, reader = AnswerBuilder(), APIS[kind]().open_reader(1)
    for event in reader.feed(body(name)):
        if (answer := builder.add(event)) is not None:
            return answer
    raise AssertionError("no end")


def test_answers_have_the_shape_of_the_official_types() -> None:
    chunk = TypeAdapter(ChatCompletionChunk)
    for name in CHAT_COMPLETIONS:
        for event in events(name):
            chunk.validate_python(event)
    told = TypeAdapter[Any](ResponseStreamEvent)
    for name in RESPONSES:
        for event in events(name):
            told.validate_python(event)
    message = TypeAdapter[Any](RawMessageStreamEvent)
    for name in MESSAGES:
        for event in events(name):
            if event["type"] != "ping":  # the client reads past it
                message.validate_python(event)
    for name in LINES:
        for line in body(name).splitlines():
            ollama.ChatResponse.model_validate_json(line)


async def openai_reads(url: str) -> dict[str, Any]:
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        chunks = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        read = [chunk async for chunk in chunks]
    choices = [chunk.choices[0] for chunk in read if chunk.choices]
    (used,) = [chunk.usage for chunk in read if chunk.usage is not None]
    return {
        "text": "".join(choice.delta.content or "" for choice in choices),
        "reason": choices[-1].finish_reason,
        "prompt": used.prompt_tokens,
        "completion": used.completion_tokens,
    }


async def openai_reads_responses(url: str) -> dict[str, Any]:
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        events = await client.responses.create(model="m", input="Why?", stream=True)
        read = [event async for event in events]
    last = read[-1]
    assert last.type == "response.completed"
    calls = [item for item in last.response.output if item.type == "function_call"]
    assert last.response.usage is not None
    return {
        "text": "".join(
            event.delta for event in read if event.type == "response.output_text.delta"
        ),
        "reason": "tool_calls" if calls else "stop",
        "prompt": last.response.usage.input_tokens,
        "completion": last.response.usage.output_tokens,
    }


async def anthropic_reads(url: str) -> dict[str, Any]:
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=9, messages=HELLO) as told,
    ):
        message = await told.get_final_message()
    used = message.usage
    kept = (used.cache_creation_input_tokens or 0) + (used.cache_read_input_tokens or 0)
    return {
        "text": "".join(block.text for block in message.content if block.type == "text"),
        "reason": {"end_turn": "stop", "tool_use": "tool_calls"}[message.stop_reason or ""],
        "prompt": used.input_tokens + kept,
        "completion": used.output_tokens,
    }


async def ollama_reads(url: str) -> dict[str, Any]:
    async with ollama.AsyncClient(host=url) as client:
        lines = [line async for line in await client.chat(model="m", messages=HELLO, stream=True)]
    return {
        "text": "".join(line.message.content or "" for line in lines),
        "reason": lines[-1].done_reason,
        "prompt": lines[-1].prompt_eval_count,
        "completion": lines[-1].eval_count,
    }


Read = Callable[[str], Awaitable[dict[str, Any]]]


@pytest.mark.parametrize(
    ("read_by_client", "answers"),
    [
        (
            openai_reads,
            {
                "openai.sse": ProviderKind.OPENAI,
                "deepseek-chat.sse": ProviderKind.DEEPSEEK,
                "deepseek-reasoner.sse": ProviderKind.DEEPSEEK,
                "vllm.sse": ProviderKind.OPENAI_COMPATIBLE,
            },
        ),
        (openai_reads_responses, dict.fromkeys(RESPONSES, ProviderKind.OPENAI_RESPONSES)),
        (anthropic_reads, dict.fromkeys(MESSAGES, ProviderKind.ANTHROPIC)),
        (ollama_reads, {"ollama.ndjson": ProviderKind.OLLAMA}),
    ],
)
async def test_the_official_client_reads_the_same_bytes_as_we_do(
    read_by_client: Read, answers: dict[str, ProviderKind]
) -> None:
    for name, kind in answers.items():
        async with open_upstream(stream(body(name))) as upstream:
            theirs = await read_by_client(upstream.url)
        ours = read_by_us(name, kind)
        assert ours.end.usage is not None
        assert theirs == {
            "text": ours.choices[0].text,
            "reason": ours.end.reason.value,
            "prompt": ours.end.usage.prompt_tokens,
            "completion": ours.end.usage.completion_tokens,
        }
