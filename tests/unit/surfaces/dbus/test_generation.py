"""Answers as lines through a pipe, or as one text."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.house import (
    ANSWER,
    STRANGER,
    TINY,
    USER,
    House,
    caller,
    open_house,
)
from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnded,
    Continued,
    Finished,
    FinishReason,
    Message,
    Role,
    TextDelta,
    TokenChance,
    TokenLogprob,
    ToolCallDelta,
)
from unified_llm.domain.errors import (
    Cancelled,
    InvalidRequest,
    NoRoom,
    NotPermitted,
    RateLimited,
    UnifiedLlmError,
    UnknownModel,
)
from unified_llm.domain.models import ModelId
from unified_llm.operations.jobs import MAX_RUNNING_PER_UID, Job, JobResult
from unified_llm.surfaces.dbus.generation import Generations

Script = Sequence[ChatEvent | UnifiedLlmError | asyncio.Event]
DONE = {
    "done": True,
    "finish_reason": "stop",
    "usage": {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "cached_tokens": 1,
        "cache_write_tokens": 0,
        "long_cache_write_tokens": 0,
    },
}


def request(model: str = TINY, text: str = "Why?") -> ChatRequest:
    return ChatRequest(ModelId(model), (Message(Role.USER, text),))


def connected(house: House) -> Generations:
    """Generations that hear of the ends of jobs, as the door arranges it."""
    generations = Generations(house.inference, house.jobs)
    house.jobs.on_change = generations.on_job_changed
    return generations


def take_lines(reading: int) -> list[dict[str, Any]]:
    with os.fdopen(reading, encoding="ascii") as stream:
        return [json.loads(line) for line in stream]


async def stream_of(script: Script, *, choices: int = 1) -> tuple[Job, list[dict[str, Any]]]:
    async with open_house(backend=FakeBackend(script)) as house:
        asked = replace(request(), choices=choices)
        job, reading = connected(house).begin_stream(USER, asked)
        await job.finished.wait()
        lines = await asyncio.to_thread(take_lines, reading)
    return job, lines


async def test_a_stream_is_a_line_for_each_piece_and_an_end() -> None:
    job, lines = await stream_of(ANSWER)
    assert lines == [{"text": "Blue "}, {"text": "light."}, DONE]
    assert job.result is JobResult.DONE
    assert job.details == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "cached_tokens": 1,
        "finish_reason": "stop",
        "seconds": 0.5,
    }


async def test_a_line_stays_a_line_whatever_the_model_says() -> None:
    text = 'a\nb\r\x85\u2028"\\\0\ud800'
    _, lines = await stream_of([TextDelta(text), *ANSWER[-1:]])
    assert lines == [{"text": text}, DONE]


async def test_chances_stand_in_the_line_of_their_text() -> None:
    token = TokenLogprob(TokenChance("é", "é".encode(), -0.5))
    _, lines = await stream_of([TextDelta("é", (token,)), *ANSWER[-1:]])
    told = {"token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9], "top_logprobs": []}
    assert lines == [{"text": "é", "logprobs": [told]}, DONE]


async def test_of_several_answers_each_line_says_which_one_it_is_of() -> None:
    end = ANSWER[-1]
    assert isinstance(end, Finished)
    script: Script = [
        TextDelta("b", choice=1),
        ToolCallDelta(0, "id", "f", choice=1),
        ChoiceEnded(1, FinishReason.LENGTH),
        TextDelta("a"),
        end,
    ]
    _, lines = await stream_of(script, choices=2)
    assert lines == [
        {"choice": 1, "text": "b"},
        {"choice": 1, "tool_call": {"index": 0, "id": "id", "name": "f", "arguments": ""}},
        {"choice": 1, "finish_reason": "length"},
        {"choice": 0, "text": "a"},
        {"choice": 0, **DONE},
    ]


async def test_a_failure_is_the_last_line() -> None:
    error = NoRoom("It needs 8 GiB.", hint="Unload something.")
    job, lines = await stream_of([TextDelta("Bl"), error])
    assert lines == [
        {"text": "Bl"},
        {"error": {"code": "no-room", "message": "It needs 8 GiB.", "hint": "Unload something."}},
    ]
    assert (job.result, job.error) == (JobResult.FAILED, error)


async def test_a_bug_of_ours_shows_one_incident_to_reader_and_job(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job, lines = await stream_of([TextDelta("Bl")])
    assert job.error is not None
    assert lines[-1]["error"]["message"] == job.error.message
    assert lines[-1]["error"]["code"] == "internal"
    assert "without their end" in caplog.text


async def test_cancelling_the_job_ends_the_stream_and_the_generation() -> None:
    backend = FakeBackend([TextDelta("Bl"), asyncio.Event()])
    async with open_house(backend=backend) as house:
        job, reading = connected(house).begin_stream(USER, request())
        while not backend.open:
            await asyncio.sleep(0)
        house.jobs.cancel(job, USER)
        await job.finished.wait()
        assert backend.open == 0
        lines = await asyncio.to_thread(take_lines, reading)
    assert lines[-1]["error"]["code"] == "cancelled"


async def test_closing_the_stream_cancels_the_generation_before_its_first_token() -> None:
    backend = FakeBackend([asyncio.Event()])
    async with open_house(backend=backend) as house:
        job, reading = connected(house).begin_stream(USER, request())
        while not backend.open:
            await asyncio.sleep(0)
        os.close(reading)
        await job.finished.wait()
        assert backend.open == 0
    assert (job.result, house.trail.records[-1]["UNIFIED_LLM_RESULT"]) == (
        JobResult.CANCELLED,
        "cancelled",
    )


async def test_a_caller_that_vanishes_at_once_leaves_nothing() -> None:
    async with open_house() as house:
        job, reading = connected(house).begin_stream(USER, request())
        house.jobs.owner_vanished(USER.connection)
        await job.finished.wait()
        assert await asyncio.to_thread(take_lines, reading) == []
        assert house.backend.asked == []
    assert job.result is JobResult.CANCELLED


async def test_leaving_the_bus_tells_the_readers() -> None:
    backend = FakeBackend([TextDelta("Bl"), asyncio.Event()])
    async with open_house(backend=backend) as house:
        generations = connected(house)
        job, reading = generations.begin_stream(USER, request())
        while not backend.open:
            await asyncio.sleep(0)
        generations.close()
        lines = await asyncio.to_thread(take_lines, reading)
        house.jobs.cancel(job, USER)
        await job.finished.wait()
    assert lines[-1] == {
        "error": {"code": "closing", "message": "The daemon is stopping.", "hint": ""}
    }


@pytest.mark.parametrize(
    ("who", "asked", "error"),
    [
        (STRANGER, request(), NotPermitted),
        (USER, request("huge"), UnknownModel),
        (USER, request(text="\0"), InvalidRequest),
    ],
)
async def test_what_can_be_known_at_once_is_refused_at_once_and_recorded(
    who: Any, asked: ChatRequest, error: type[UnifiedLlmError]
) -> None:
    async with open_house() as house:
        with pytest.raises(error):
            connected(house).begin_stream(who, asked)
        assert house.jobs.visible_to(caller(0)) == ()
    (record,) = house.trail.records
    assert record["UNIFIED_LLM_CODE"] == error.code


async def test_over_the_quota_no_pipe_is_left_open_and_the_refusal_is_recorded() -> None:
    async with open_house(backend=FakeBackend([asyncio.Event()])) as house:
        generations = connected(house)
        streams = [generations.begin_stream(USER, request())[1] for _ in range(MAX_RUNNING_PER_UID)]
        with pytest.raises(RateLimited):
            generations.begin_stream(USER, request())
        for reading in streams:
            os.close(reading)
    refused = [
        record for record in house.trail.records if record["UNIFIED_LLM_RESULT"] == "refused"
    ]
    assert [record["UNIFIED_LLM_CODE"] for record in refused] == ["rate-limited"]


async def test_the_whole_text_comes_with_what_it_took() -> None:
    async with open_house() as house:
        text, figures = await connected(house).answer(USER, request())
    assert text == "Blue light."
    assert figures["completion_tokens"] == 2
    (record,) = house.trail.records
    assert record["UNIFIED_LLM_COMPLETION_TOKENS"] == "2"


async def test_a_text_that_fails_half_way_is_an_error_and_no_text() -> None:
    error = Cancelled("no more")
    async with open_house(backend=FakeBackend([TextDelta("Bl"), error])) as house:
        with pytest.raises(Cancelled, match="no more"):
            await connected(house).answer(USER, request())


async def test_a_change_of_who_speaks_is_a_line_of_its_own() -> None:
    change = Continued(ModelId("far/x"), "far", 4)
    _, lines = await stream_of([TextDelta("Blue"), change, *ANSWER[-1:]])
    told = {"model": "far/x", "backend": "far", "offset": 4}
    assert lines == [{"text": "Blue"}, {"continued": told}, DONE]
