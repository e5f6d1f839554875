"""Calls on their way in: whose they are, and whose turn it is.

Rules:
1. Nothing is done for a call before it is known whose it is, which is asked once a connection.
2. Users take turns, call by call, however many connections each of them has: the queue of who
   sends many is their own.
3. A call that wants no reply is dropped by its header if it only asks something, if there is no
   such method, or beyond so many a second.
4. What waits for its turn is bounded: a user's calls beyond that are refused unread.
"""

import asyncio
from collections import Counter
from typing import Final, Protocol

from unified_llm.bus.calls import Calls
from unified_llm.bus.credentials import Credentials
from unified_llm.bus.decoding import Header
from unified_llm.bus.encoding import NO_REPLY_EXPECTED
from unified_llm.bus.quota import UnansweredCalls
from unified_llm.bus.reading import Incoming, Problem
from unified_llm.bus.turns import Turns
from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import Cancelled, NotPermitted

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""Of arguments that wait for their turn, per user."""

# For calls, in one turn of the event loop. The one that goes beyond it is not cut off.
_SECONDS_PER_TURN: Final = 0.005
_GONE: Final = Cancelled("The call was cancelled before it was done.")


class Answers(Protocol):
    """What is behind the intake."""

    def is_worth_reading(self, header: Header) -> bool:
        """Whether the arguments of such a call are needed to answer it."""

    def on_call(self, incoming: Incoming, caller: Caller) -> None:
        """Answer, or begin to; takes the descriptors."""

    def refuse(self, header: Header, error: BaseException) -> None:
        """Answer with an error."""


class Intake:
    """Takes the calls of a connection, as connection.CallServer, and hands them on one by one."""

    def __init__(self, answers: Answers, calls: Calls, credentials: Credentials) -> None:
        self._answers = answers
        self._calls = calls
        self._credentials = credentials
        self._loop = asyncio.get_running_loop()
        self._unanswered = UnansweredCalls(self._loop.time)
        self._strangers: dict[str, list[Incoming]] = {}
        self._turns: Turns[int, Incoming] = Turns()
        self._waiting_bytes: Counter[int | str] = Counter()

    def wants_body(self, header: Header) -> bool:
        """As in CallServer."""
        if header.flags & NO_REPLY_EXPECTED:
            whose = self._whose(header)
            uid = whose if isinstance(whose, int) else None
            if not self._unanswered.may_take(uid, header.sender):
                return False
        return self._answers.is_worth_reading(header)

    def is_noise(self, header: bytes) -> bool:
        """As in CallServer."""
        return self._unanswered.is_noise(header)

    def on_call(self, incoming: Incoming) -> None:
        """As in CallServer."""
        header = incoming.header
        if header.flags & NO_REPLY_EXPECTED and incoming.problem is Problem.UNWANTED:
            incoming.close_fds()
            return
        whose = self._whose(header)
        self._bound(whose, incoming)
        if isinstance(whose, int):
            self._queue(whose, incoming)
        elif whose in self._strangers:
            self._strangers[whose].append(incoming)
        else:
            self._strangers[whose] = [incoming]
            self._calls.begin_for(whose, self._identify(whose), lambda: self._forget(whose))

    def close(self) -> None:
        """Refuse what still waits for its turn."""
        while self._turns:
            self._drop(self._turns.take()[1])

    def _whose(self, header: Header) -> int | str:
        """The uid; the name of a connection of which it is not known yet."""
        sender = header.sender
        caller = None if sender in self._strangers else self._credentials.known(sender)
        return sender if caller is None else caller.uid

    def _bound(self, whose: int | str, incoming: Incoming) -> None:
        size = len(incoming.data or b"")
        if self._waiting_bytes[whose] + size > MAX_WAITING_BYTES:
            incoming.data, incoming.problem = None, Problem.CROWDED
        else:
            self._waiting_bytes[whose] += size

    def _unbound(self, whose: int | str, incoming: Incoming) -> None:
        self._waiting_bytes[whose] -= len(incoming.data or b"")
        if not self._waiting_bytes[whose]:
            del self._waiting_bytes[whose]

    async def _identify(self, sender: str) -> None:
        try:
            caller = await self._credentials.caller_of(sender)
        except NotPermitted as error:
            for incoming in self._take_stranger(sender):
                self._answers.refuse(incoming.header, error)
                incoming.close_fds()
            return
        for incoming in self._take_stranger(sender):
            self._bound(caller.uid, incoming)
            self._queue(caller.uid, incoming)

    def _take_stranger(self, sender: str) -> list[Incoming]:
        taken = self._strangers.pop(sender, [])
        for incoming in taken:
            self._unbound(sender, incoming)
        return taken

    def _forget(self, sender: str) -> None:
        """Whoever it was has left, or we are leaving."""
        for incoming in self._take_stranger(sender):
            self._drop(incoming)

    def _drop(self, incoming: Incoming) -> None:
        self._answers.refuse(incoming.header, _GONE)
        incoming.close_fds()

    def _queue(self, uid: int, incoming: Incoming) -> None:
        if not self._turns:
            self._loop.call_soon(self._take_turns)
        self._turns.add(uid, incoming)

    def _take_turns(self) -> None:
        until = self._loop.time() + _SECONDS_PER_TURN
        while self._turns:
            self._take_turn(*self._turns.take())
            if self._loop.time() > until:
                break
        if self._turns:
            self._loop.call_soon(self._take_turns)

    def _take_turn(self, uid: int, incoming: Incoming) -> None:
        self._unbound(uid, incoming)
        caller = self._credentials.known(incoming.header.sender)
        if caller is None:
            # It has left meanwhile, and must not come to hold anything any more.
            incoming.close_fds()
        else:
            self._answers.on_call(incoming, caller)
