"""A chat as Server-Sent Events.

Rule 1: the status is held back until the first event, so that a failure before it has a status of
its own; after a while of silence 200 is sent all the same, and comments keep the stream alive.
Rule 2: a stream ends in exactly one way: finished with `[DONE]`, one error event without it, or, if
the client is gone, nothing.
Rule 3: the generation has been left, and what it held is free, before the end is written: a client
that does not read its last event holds nothing but its socket.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unified_llm.domain.answers import Answer, AnswerBuilder
from unified_llm.domain.chat import ChatEvent, Finished
from unified_llm.domain.errors import Cancelled
from unified_llm.surfaces.http.connections import Peer
from unified_llm.surfaces.http.faults import REQUEST_ID_HEADER, ensure_ours, error_response
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.wire.openai_answers import PING, CompletionWriter
from unified_llm.wire.problem import describe

ChatContext = AbstractAsyncContextManager[AsyncIterator[ChatEvent]]


async def read_to_end(chat: ChatContext) -> Answer:
    """The whole answer of a chat, which has been left then. Raises what the chat raises."""
    builder = AnswerBuilder()
    async with chat as events:
        async for event in events:
            if (answer := builder.add(event)) is not None:
                return answer
    raise EndlessAnswerError


class EndlessAnswerError(Exception):
    """A backend broke its contract: the events ended without Finished."""


class ChatStream(Response):
    """The streamed answer to one chat, which runs in a scope of `peer`."""

    def __init__(
        self,
        chat: ChatContext,
        writer: CompletionWriter,
        peer: Peer,
        limits: HttpLimits,
        request_id: str,
    ) -> None:
        super().__init__(
            headers={REQUEST_ID_HEADER: request_id, "cache-control": "no-store"},
            media_type="text/event-stream",
        )
        del self.headers["content-length"]
        self._chat = chat
        self._writer = writer
        self._peer = peer
        self._limits = limits
        self._request_id = request_id
        self._is_started = False
        self._is_quiet = True
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the chat and write its events."""
        async with asyncio.TaskGroup() as group:
            pings = group.create_task(self._keep_alive(send))
            try:
                ending = await self._run(send)
            finally:
                pings.cancel()
        if isinstance(ending, Response):
            await ending(scope, receive, send)
        elif ending:
            await self._write(send, ending, is_last=True)

    async def _run(self, send: Send) -> bytes | Response:
        """Run the chat; what ends the answer is returned, nothing if nobody is there."""
        try:
            async with self._chat as events:
                finished = await self._forward(events, send)
        except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
            if self._peer.is_gone and isinstance(error, Cancelled):
                return b""
            if not self._is_started:
                return error_response(error, self._request_id)
            problem = describe(ensure_ours(error, self._request_id))
            return self._writer.failure(problem)
        return self._writer.end(finished)

    async def _forward(self, events: AsyncIterator[ChatEvent], send: Send) -> Finished:
        async for event in events:
            if isinstance(event, Finished):
                return event
            await self._write(send, self._writer.piece(event))
            # To send to a client that has left is no error in ASGI, and events that are all there
            # already never wait: 410,000 of them were once written to nobody in a second.
            await self._peer.checkpoint()
        raise EndlessAnswerError

    async def _keep_alive(self, send: Send) -> None:
        await asyncio.sleep(self._limits.silence_seconds)
        if not self._is_started:
            await self._write(send, PING)
        while True:
            self._is_quiet = True
            # Half, so that no silence is longer than the whole.
            await asyncio.sleep(self._limits.ping_seconds / 2)
            if self._is_quiet:
                await self._write(send, PING)

    async def _write(self, send: Send, body: bytes, *, is_last: bool = False) -> None:
        # Events and comments come from two tasks, and the head must be first.
        async with self._lock:
            self._is_quiet = False
            if not self._is_started:
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status_code,
                        "headers": self.raw_headers,
                    }
                )
                self._is_started = True
            await send({"type": "http.response.body", "body": body, "more_body": not is_last})
