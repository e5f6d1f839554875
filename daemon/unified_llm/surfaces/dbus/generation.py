"""Answers over the bus: as lines through a pipe, or as one text."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

from unified_llm.bus.faults import internal_fault
from unified_llm.domain.answers import AnswerBuilder
from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnded,
    Continued,
    Delta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)
from unified_llm.domain.errors import Cancelled, Closing, UnifiedLlmError
from unified_llm.operations.inference import Inference
from unified_llm.operations.interruption import Interruptible
from unified_llm.operations.jobs import Details, Job, JobId, Jobs, JobState, JobType
from unified_llm.surfaces.dbus.stream import LineWriter, open_pipe
from unified_llm.wire.continuing import told_change
from unified_llm.wire.logprobs import told_logprobs


class Generations:
    """Runs generations for callers; a streamed one is a private job."""

    def __init__(self, inference: Inference, jobs: Jobs) -> None:
        self._inference = inference
        self._jobs = jobs
        self._writers: dict[JobId, LineWriter] = {}
        self._running = Interruptible()

    def begin_stream(self, caller: Caller, request: ChatRequest) -> tuple[Job, int]:
        """The job of a generation, and the pipe to read it from, which is the taker's to close.

        Raises what can be known at once; the rest becomes the last line of the stream.
        """
        with self._inference.open_admission(caller, request):
            return self._begin_job(caller, request)

    def _begin_job(self, caller: Caller, request: ChatRequest) -> tuple[Job, int]:
        reading, writing = open_pipe()
        work = partial(self._stream, request=request)
        try:
            job = self._jobs.begin(JobType.GENERATE, request.model, caller, work, is_private=True)
        except BaseException:
            os.close(reading)
            os.close(writing)
            raise
        # In time for the work: its task takes its first step at the next turn of the loop.
        self._writers[job.id] = LineWriter(writing, partial(self._jobs.cancel, job, caller))
        return job, reading

    async def answer(self, caller: Caller, request: ChatRequest) -> tuple[str, Details]:
        """The whole text, and what it took. Raises any UnifiedLlmError."""
        builder = AnswerBuilder()
        chat = self._inference.open_chat(caller, request, scope=self._running.open_scope())
        async with chat as events:
            async for event in events:
                if (answer := builder.add(event)) is not None:
                    return answer.choices[0].text, _figures(answer.end)
        raise EOFError("the answers ended without their end")

    def on_job_changed(self, job: Job) -> None:
        """Close the stream of a job that has ended, even before its work began."""
        if job.state is JobState.FINISHED:
            self._close(job.id)

    def end_all(self) -> None:
        """End every generation that runs or comes, with Closing."""
        self._running.interrupt(Closing("The daemon is stopping."))

    def close(self) -> None:
        """Cut off all streams: the daemon is leaving the bus."""
        for job, writer in tuple(self._writers.items()):
            writer.write_at_once(_error_line(Closing("The daemon is stopping.")))
            self._close(job)

    def _close(self, job: JobId) -> None:
        writer = self._writers.pop(job, None)
        if writer is not None:
            writer.close()

    async def _stream(self, job: Job, request: ChatRequest) -> Details:
        writer = self._writers[job.id]
        try:
            finished = await self._pass_on(job, request, writer)
            # The lease is given back by now: a slow reader of the last line holds up nobody.
            which = _which(finished, request)
            await writer.write(_line({"done": True, **which, **_ending(finished)}))
        except asyncio.CancelledError:
            writer.write_at_once(_error_line(Cancelled("The generation was cancelled.")))
            raise
        except UnifiedLlmError as error:
            writer.write_at_once(_error_line(error))
            raise
        except Exception as error:
            fault = internal_fault("Generate", error)
            writer.write_at_once(_error_line(fault))
            raise fault from error
        return _figures(finished)

    async def _pass_on(self, job: Job, request: ChatRequest, writer: LineWriter) -> Finished:
        chat = self._inference.open_chat(
            job.owner, request, request_id=str(job.id), scope=self._running.open_scope()
        )
        async with chat as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event
                await writer.write(_line(_which(event, request) | _told(event)))
        raise EOFError("the answers ended without their end")


def _line(value: Mapping[str, object]) -> bytes:
    # No character outside ASCII: half a surrogate pair stays legal JSON, and a line is a line.
    return json.dumps(value).encode() + b"\n"


def _which(event: ChatEvent, request: ChatRequest) -> dict[str, object]:
    return {} if request.choices == 1 else {"choice": event.choice}


def _told(piece: Delta | ChoiceEnded | Continued) -> dict[str, object]:
    match piece:
        case Continued():
            return {"continued": told_change(piece)}
        case TextDelta(text=text, logprobs=()):
            return {"text": text}
        case TextDelta(text=text, logprobs=logprobs):
            return {"text": text, "logprobs": told_logprobs(logprobs)}
        case ReasoningDelta(text=text):
            return {"reasoning": text}
        case RefusalDelta(text=text):
            return {"refusal": text}
        case ToolCallDelta(index=index, id=number, name=name, arguments=arguments):
            parts = {"index": index, "id": number, "name": name, "arguments": arguments}
            return {"tool_call": _known(parts)}
        case ChoiceEnded(reason=reason):
            return {"finish_reason": reason.value}


def _error_line(error: UnifiedLlmError) -> bytes:
    told = {"code": error.code, "message": error.message, "hint": error.hint}
    return _line({"error": told})


def _ending(finished: Finished) -> dict[str, object]:
    usage = finished.usage
    return {
        "finish_reason": finished.reason.value,
        "usage": None if usage is None else _known(asdict(usage)),
    }


def _known(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _figures(finished: Finished) -> dict[str, str | int | float]:
    """What a generation took; what is not known is left out."""
    usage = finished.usage
    figures: dict[str, str | int | float] = {}
    if usage is not None:
        figures = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
        }
    figures["finish_reason"] = finished.reason.value
    return figures if finished.total is None else figures | {"seconds": finished.total}
