"""What every Backend promises, tried on each of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.exchange import FakeExchange
from tests.fakes.leases import FakeLeases
from tests.fakes.timers import FakeTimers, settle
from tests.unit.fleet.asking import CALLER, request
from unified_llm.domain.chat import ChatEvent, Finished, FinishReason, TextDelta, Usage
from unified_llm.domain.errors import QueueFull, TooLarge, UnifiedLlmError
from unified_llm.domain.ports import Backend, Lease
from unified_llm.domain.providers import ProviderKind
from unified_llm.domain.units import Tokens
from unified_llm.fleet.backend import Deadlines, LocalBackend
from unified_llm.fleet.dispatch import Dispatch
from unified_llm.fleet.generation_stream import GenerationFrame, GenerationStream, Order
from unified_llm.fleet.poison import Quarantine
from unified_llm.providers.backend import Deadlines as Patience
from unified_llm.providers.backend import Provider
from unified_llm.providers.kinds import APIS
from unified_llm.worker.protocol import Delta, Done, Failed

Step = TextDelta | Finished | UnifiedLlmError
Script = Sequence[Step]

FINISHED = Finished(FinishReason.STOP, Usage(Tokens(3), Tokens(2)))
ANSWER: Script = [TextDelta("Hello"), TextDelta(" there"), FINISHED]


@dataclass
class Stage:
    """A backend that answers from a script and then falls silent. open_chats: now."""

    backend: Backend
    open_chats: Callable[[], int]


def fake_stage(script: Script, refusal: UnifiedLlmError | None = None) -> Stage:
    backend = FakeBackend([*script, asyncio.Event()], refusal=refusal)
    return Stage(backend, lambda: backend.open)


class ScriptedWorkers:
    """Answers each order with the script's frames."""

    def __init__(self, script: Script) -> None:
        self._script = script

    @asynccontextmanager
    async def open_stream(self, lease: Lease, order: Order) -> AsyncIterator[GenerationStream]:
        stream = GenerationStream(1, order.fingerprint)
        for step in self._script:
            stream.put(_frame(step))
        yield stream

    async def left(self, lease: Lease) -> None:
        raise AssertionError("no worker of this script leaves")


def _frame(step: Step) -> GenerationFrame:
    match step:
        case TextDelta(text):
            return Delta(id=1, text=text)
        case Finished(reason, Usage() as usage):
            return Done(
                id=1,
                reason=reason,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cached_tokens=usage.cached_tokens,
            )
        case UnifiedLlmError():
            return Failed(id=1, code=step.code, message=step.message)
    raise AssertionError(f"{step} is not in a script")


def local_stage(script: Script, refusal: UnifiedLlmError | None = None) -> Stage:
    leases = FakeLeases()
    leases.refusal = refusal
    timers = FakeTimers()
    backend = LocalBackend(
        Dispatch(leases, ScriptedWorkers(script), Quarantine(b"key"), timers), timers, Deadlines()
    )
    return Stage(backend, lambda: leases.out)


def _chunk(step: Step) -> bytes:
    match step:
        case TextDelta(text):
            return _sse({"choices": [{"delta": {"content": text}}]})
        case Finished(reason, Usage() as usage):
            used = {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            }
            end = {"choices": [{"delta": {}, "finish_reason": reason.value}], "usage": used}
            return _sse(end) + b"data: [DONE]\n\n"
        case UnifiedLlmError():
            return _sse({"error": {"code": step.code, "message": step.message}})
    raise AssertionError(f"{step} is not in a script")


def _response_event(step: Step) -> bytes:
    match step:
        case TextDelta(text):
            return _sse({"type": "response.output_text.delta", "delta": text})
        case Finished(_, Usage() as usage):
            used = {
                "input_tokens": usage.prompt_tokens,
                "output_tokens": usage.completion_tokens,
            }
            return _sse({"type": "response.completed", "response": {"usage": used}})
        case UnifiedLlmError():
            return _sse({"type": "error", "code": step.code, "message": step.message})
    raise AssertionError(f"{step} is not in a script")


def _message_event(step: Step) -> bytes:
    match step:
        case TextDelta(text):
            delta = {"type": "text_delta", "text": text}
            return _sse({"type": "content_block_delta", "index": 0, "delta": delta})
        case Finished(_, Usage() as usage):
            used = {
                "input_tokens": usage.prompt_tokens,
                "output_tokens": usage.completion_tokens,
            }
            end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": used}
            return _sse(end) + _sse({"type": "message_stop"})
        case UnifiedLlmError():
            told = {"type": step.code, "message": step.message}
            return _sse({"type": "error", "error": told})
    raise AssertionError(f"{step} is not in a script")


def _sse(content: object) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


def provider_stage(kind: ProviderKind, render: Callable[[Step], bytes]) -> "SetUp":
    def set_up(script: Script, refusal: UnifiedLlmError | None = None) -> Stage:
        exchange = FakeExchange([render(step) for step in script], refusal=refusal)
        if not any(isinstance(step, Finished | UnifiedLlmError) for step in script):
            exchange.chunks.append(asyncio.Event())
        backend = Provider("far", kind, APIS[kind](), exchange, FakeTimers(), Patience(), None)
        return Stage(backend, lambda: exchange.open)

    return set_up


SetUp = Callable[..., Stage]
BACKENDS: dict[str, SetUp] = {
    "fake": fake_stage,
    "local": local_stage,
    "chat completions": provider_stage(ProviderKind.OPENAI_COMPATIBLE, _chunk),
    "responses": provider_stage(ProviderKind.OPENAI_RESPONSES, _response_event),
    "messages": provider_stage(ProviderKind.ANTHROPIC, _message_event),
}
every_backend = pytest.mark.parametrize("set_up", BACKENDS.values(), ids=BACKENDS)


async def answer_of(stage: Stage) -> list[ChatEvent]:
    async with stage.backend.chat(request(), CALLER) as events:
        return [event async for event in events]


@every_backend
async def test_an_answer_is_text_and_then_one_finish(set_up: SetUp) -> None:
    stage = set_up(ANSWER)
    *texts, finish = await answer_of(stage)
    assert texts == [TextDelta("Hello"), TextDelta(" there")]
    assert isinstance(finish, Finished)
    assert (finish.reason, finish.usage) == (FINISHED.reason, FINISHED.usage)
    assert stage.open_chats() == 0


@every_backend
async def test_a_failure_comes_instead_of_the_finish(set_up: SetUp) -> None:
    stage = set_up([TextDelta("Hello"), TooLarge("The context is full.")])
    heard: list[ChatEvent] = []
    with pytest.raises(TooLarge, match="The context is full"):
        await _collect(stage, heard)
    assert heard == [TextDelta("Hello")]
    assert stage.open_chats() == 0


async def _collect(stage: Stage, heard: list[ChatEvent]) -> None:
    async with stage.backend.chat(request(), CALLER) as events:
        async for event in events:
            heard.append(event)  # noqa: PERF401 - what came before an error counts


@every_backend
async def test_a_refusal_comes_on_entry(set_up: SetUp) -> None:
    stage = set_up(ANSWER, QueueFull("32 wait already."))
    with pytest.raises(QueueFull):
        async with stage.backend.chat(request(), CALLER):
            pytest.fail("entered")
    assert stage.open_chats() == 0


@every_backend
async def test_leaving_early_frees_what_was_held(set_up: SetUp) -> None:
    stage = set_up(ANSWER)
    async with stage.backend.chat(request(), CALLER) as events:
        assert await anext(aiter(events)) == TextDelta("Hello")
        assert stage.open_chats() == 1
    assert stage.open_chats() == 0


@every_backend
async def test_leaving_without_reading_frees_what_was_held(set_up: SetUp) -> None:
    stage = set_up(ANSWER)
    async with stage.backend.chat(request(), CALLER):
        assert stage.open_chats() == 1
    assert stage.open_chats() == 0


@every_backend
async def test_a_cancelled_reader_frees_what_was_held(set_up: SetUp) -> None:
    stage = set_up([TextDelta("Hello")])
    heard: list[ChatEvent] = []
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_collect(stage, heard))
        await settle()
        assert heard == [TextDelta("Hello")]
        assert stage.open_chats() == 1
        reading.cancel()
    assert reading.cancelled()
    assert stage.open_chats() == 0


@every_backend
async def test_two_chats_do_not_disturb_each_other(set_up: SetUp) -> None:
    stage = set_up(ANSWER)
    async with stage.backend.chat(request(), CALLER) as events:
        first = await anext(aiter(events))
        whole = await answer_of(stage)
        rest = [event async for event in events]
    assert [first, *rest][:2] == whole[:2]
    assert len(rest) == 2
