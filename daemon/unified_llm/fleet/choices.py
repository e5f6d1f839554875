"""Several answers to one request, computed side by side and told as one stream.

Rule 1: each is a chat of its own, as if it were asked for alone: it has its own lease, so that
four answers count for four and take turns with what others ask for. One that holds its lease never
waits for another one's, so two requests can not hold each other up.
Rule 2: what one of them fails with ends all, once.
Rule 3: a choice that is not read is not computed on: each waits until its last event was taken.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Self

from unified_llm.domain.chat import ChatEvent, ChatRequest, ChoiceEnded, Finished, Usage
from unified_llm.domain.ports import Clock
from unified_llm.domain.sampling import MAX_SEED
from unified_llm.domain.units import Seconds, Tokens

ChatContext = AbstractAsyncContextManager[AsyncIterator[ChatEvent]]

_Told = ChatEvent | Exception | None


def choice_of(request: ChatRequest, index: int) -> ChatRequest:
    """What is asked for one of the answers alone: the same, with a seed of its own.

    The first has the seed of the request, so it is the answer that the request gets if it asks for
    one.
    """
    sampling = request.sampling
    if sampling.seed is not None:
        sampling = replace(sampling, seed=(sampling.seed + index) % (MAX_SEED + 1))
    return replace(request, choices=1, sampling=sampling)


@asynccontextmanager
async def open_side_by_side(
    chats: Sequence[ChatContext], clock: Clock
) -> AsyncIterator[AsyncIterator[ChatEvent]]:
    """One stream of all `chats`; entered when the first of them is. Leaving ends all of them.

    Raises what a chat raises, on entry if it is the first one's entry.
    """
    answer = _Answer(len(chats), clock)
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer.follow(0, chats[0]))]
        try:
            await answer.begun()
            tasks += [
                group.create_task(answer.follow(index, chat))
                for index, chat in enumerate(chats[1:], 1)
            ]
            yield answer
        except Exception as error:  # noqa: BLE001  raised below: a group would wrap it
            failure = error
        finally:
            for task in tasks:
                task.cancel()
    if failure is not None:
        raise failure


class _Answer:
    """The events of all, as they come.

    Not an async generator: one that is left half-way is finalised by a task that nobody owns.
    """

    def __init__(self, count: int, clock: Clock) -> None:
        self._left = count
        self._clock = clock
        self._began = clock.now()
        self._mailbox: asyncio.Queue[tuple[int, _Told]] = asyncio.Queue(maxsize=1)
        self._ends: list[Finished] = []

    async def follow(self, index: int, chat: ChatContext) -> None:
        """Pass on the events of one chat: None when it is entered, then all until its end.

        It is left when its end was taken, so that a choice which is whole holds up no other one.
        """
        try:
            async with chat as events:
                await self._mailbox.put((index, None))
                event: ChatEvent | None = None
                while not isinstance(event, Finished):
                    event = await anext(events)
                    await self._mailbox.put((index, event))
        except Exception as error:  # noqa: BLE001  raised by whoever reads
            await self._mailbox.put((index, error))

    async def begun(self) -> None:
        """Wait until the first chat is entered, which is the only one followed so far."""
        _, told = await self._mailbox.get()
        if isinstance(told, Exception):
            raise told
        self._began = self._clock.now()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatEvent:
        if not self._left:
            raise StopAsyncIteration
        index, event = await self._mailbox.get()
        while event is None:
            index, event = await self._mailbox.get()
        if isinstance(event, Exception):
            raise event
        if not isinstance(event, Finished):
            return replace(event, choice=index)
        self._left -= 1
        self._ends.append(event)
        return self._finished(index, event) if not self._left else ChoiceEnded(index, event.reason)

    def _finished(self, index: int, last: Finished) -> Finished:
        firsts = [end.first_token for end in self._ends if end.first_token is not None]
        return Finished(
            last.reason,
            _together([end.usage for end in self._ends]),
            first_token=min(firsts, default=None),
            total=Seconds(self._clock.now() - self._began),
            choice=index,
        )


def _together(parts: Sequence[Usage | None]) -> Usage | None:
    """What answers to one prompt took. The prompt counts once, as computed by the first of them."""
    known = [each for each in parts if each is not None]
    if len(known) < len(parts):
        return None
    return Usage(
        prompt_tokens=known[0].prompt_tokens,
        completion_tokens=Tokens(sum(each.completion_tokens for each in known)),
        cached_tokens=min(each.cached_tokens for each in known),
        reasoning_tokens=_sum(each.reasoning_tokens for each in known),
        accepted_tokens=_sum(each.accepted_tokens for each in known),
        rejected_tokens=_sum(each.rejected_tokens for each in known),
    )


def _sum(counts: Iterable[Tokens | None]) -> Tokens | None:
    """Of those that are known; None if none is."""
    known = [count for count in counts if count is not None]
    return Tokens(sum(known)) if known else None
