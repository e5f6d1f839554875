"""A provider that does everything wrong, over a real connection, before a model that answers.

Each case is a body and what is done to it; `expected` is the reference: which of the three good
outcomes it must have, told from the bytes alone.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.house import ANSWER, USER
from tests.fakes.timers import FakeTimers
from tests.fakes.upstream import Cut, Script, Stall, Step, Upstream, open_upstream, reply, stream
from tests.unit.routing.targets import far, here, no_accounts, plan_of
from unified_llm.domain.chat import ChatEvent, ChatRequest, Finished, Message, Role, TextDelta
from unified_llm.domain.errors import (
    LocalOnly,
    NoRoom,
    ProviderDown,
    ProviderFailed,
    ProviderOverloaded,
    RequestTimedOut,
    UnifiedLlmError,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.ports import Backend, Timers
from unified_llm.domain.providers import ProviderKind
from unified_llm.domain.units import Seconds
from unified_llm.fleet.timers import LoopTimers
from unified_llm.providers.backend import Deadlines, Provider
from unified_llm.providers.kinds import APIS
from unified_llm.providers.transport import Address, Transport, open_transport
from unified_llm.routing.attempts import AttemptPolicy
from unified_llm.routing.breaker import BreakerPolicy
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.plan import Wish
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.router import Router

pytestmark = pytest.mark.slow

REQUEST: Final = ChatRequest(ModelId("smart"), (Message(Role.USER, "Sky?"),))
LOCAL: Final = "Blue light."
WORDS: Final = ("al", "pha", "bet")
# No busy machine takes so long for a case; for the providers that stall, time is virtual.
DEADLINES: Final = Deadlines(Seconds(60), Seconds(60), Seconds(600))


def sse(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def delta(**fields: object) -> bytes:
    return sse({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a provider says `alphabet`.

    events: one after the other; the last one is the terminal marker. text_of: what an event adds to
    the answer. garbage, harmless: what is no part of an answer, and what may stand anywhere in it.
    """

    kind: ProviderKind
    events: tuple[bytes, ...]
    text_of: Callable[[Any], str]
    garbage: Mapping[str, bytes]
    harmless: Mapping[str, bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.events)

    @property
    def end(self) -> bytes:
        """The data of the terminal marker."""
        return self.events[-1].removeprefix(b"data: ").rstrip()


NO_EVENT: Final = {
    "no json": b"data: {no json\n\n",
    "a list": b"data: []\n\n",
    "half a character": b"data: \xff\xfe\n\n",
}
NOTHING: Final = {
    "a comment": b": comment\n\n",
    "blank lines": b"\n\n\n\n",
    "another field": b"retry: 10\n\n",
}
CHAT_COMPLETIONS: Final = Dialect(
    kind=ProviderKind.OPENAI_COMPATIBLE,
    events=(
        delta(role="assistant", content=""),
        *(delta(content=word) for word in WORDS),
        sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        b"data: [DONE]\n\n",
    ),
    text_of=lambda event: event["choices"][0]["delta"].get("content", ""),
    garbage=NO_EVENT
    | {
        "a number of choices": b'data: {"choices": 5}\n\n',
        "an error": b'data: {"error": {"message": "Overloaded", "code": "server_error"}}\n\n',
    },
    harmless=NOTHING | {"no choices": b'data: {"choices": []}\n\n'},
)
RESPONSES: Final = Dialect(
    kind=ProviderKind.OPENAI_RESPONSES,
    events=(
        sse({"type": "response.created", "response": {}}),
        *(sse({"type": "response.output_text.delta", "delta": word}) for word in WORDS),
        sse({"type": "response.output_text.done", "text": "".join(WORDS)}),
        sse({"type": "response.completed", "response": {}}),
    ),
    text_of=lambda event: event.get("delta", ""),
    garbage=NO_EVENT
    | {
        "a number of text": b'data: {"type": "response.output_text.delta", "delta": 5}\n\n',
        "an error": b'data: {"type": "error", "code": "server_error", "message": "Broke"}\n\n',
    },
    harmless=NOTHING | {"an unknown event": b'data: {"type": "response.unheard_of"}\n\n'},
)
DIALECTS: Final = (CHAT_COMPLETIONS, RESPONSES)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a caller gets: the texts that came, and the code of the one error, if one ended it."""

    text: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    script: Script
    expected: Outcome


def expected(dialect: Dialect, whole: bytes, fault: str | None) -> Outcome:
    """The outcome of a body of which `whole` came before `fault`, or before it just ended."""
    events = whole.split(b"\n\n")[:-1]
    text = ""
    for event in events:
        data = event.removeprefix(b"data: ")
        if data == dialect.end:
            return Outcome(text)
        text += dialect.text_of(json.loads(data))
    return Outcome(text, fault or "provider-failed") if text else Outcome(LOCAL)


STATUSES: Final = (
    201, 202, 206, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 407, 408, 409, 410,
    413, 415, 418, 422, 425, 429, 431, 451, 500, 501, 502, 503, 504, 507, 520, 522, 524, 529, 599,
)  # fmt: skip
REFUSALS: Final = {
    "nothing": b"",
    "error": json.dumps({"error": {"message": "No.", "type": "t", "code": None}}).encode(),
    "text": b"<html>Bad Gateway</html>",
    "bytes": bytes(range(256)),
    "answer": CHAT_COMPLETIONS.body,
}


def statuses(dialect: Dialect) -> Iterator[Case]:
    if dialect is not CHAT_COMPLETIONS:
        return  # nothing of a refusal is said in the dialect
    for status in STATUSES:
        for name, body in REFUSALS.items():
            extra = "location: http://127.0.0.1:1/\r\n" if 300 <= status < 400 else ""
            yield Case(f"{status} {name}", reply(body, status=status, extra=extra), Outcome(LOCAL))
    for waits in ("0", "9", "86400", "-1", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"):
        extra = f"retry-after: {waits}\r\n"
        yield Case(f"429 {waits}", reply(b"", status=429, extra=extra), Outcome(LOCAL))


def cuts(dialect: Dialect) -> Iterator[Case]:
    for offset in range(len(dialect.body)):
        head = dialect.body[:offset]
        parts: list[Step] = [head] if head else []
        told = expected(dialect, head, None)
        yield Case(f"cut at {offset}", stream(*parts, Cut(), is_whole=False), told)
        if offset % 4 == 0:
            yield Case(f"ended at {offset}", stream(*parts), told)


def stalls(dialect: Dialect) -> Iterator[Case]:
    yield Case("stall before the head", [Stall()], Outcome(LOCAL))
    for count in range(len(dialect.events)):
        before = dialect.events[:count]
        told = expected(dialect, b"".join(before), "request-timed-out")
        yield Case(f"stall at {count}", stream(*before, Stall(), is_whole=False), told)
    pings = [b": ping\n\n"] * 50
    yield Case("pings and a stall", stream(*pings, Stall(), is_whole=False), Outcome(LOCAL))


def garbage(dialect: Dialect) -> Iterator[Case]:
    for place in range(len(dialect.events)):
        before, after = dialect.events[:place], dialect.events[place:]
        for name, piece in dialect.garbage.items():
            told = expected(dialect, b"".join(before), "provider-failed")
            yield Case(f"{name} at {place}", stream(*before, piece, *after), told)
        for name, piece in dialect.harmless.items():
            yield Case(f"{name} at {place}", stream(*before, piece, *after), Outcome("alphabet"))


def repeats(dialect: Dialect) -> Iterator[Case]:
    """What is said twice was said twice, but nothing is heard after the end."""
    events, body = dialect.events, dialect.body
    for place, event in enumerate(events):
        told = [*events[: place + 1], event, *events[place + 1 :]]
        yield Case(f"{place} twice", stream(*told), expected(dialect, b"".join(told), None))
    yield Case("all twice", stream(*events, *events), Outcome("alphabet"))
    for size in (1, 2, 3, 5, 7, 64):
        pieces = [body[place : place + size] for place in range(0, len(body), size)]
        yield Case(f"pieces of {size}", stream(*pieces), Outcome("alphabet"))
    packed = reply(body, kind="text/event-stream", extra="content-encoding: gzip\r\n")
    yield Case("said to be packed", packed, Outcome(LOCAL))
    yield Case("no HTTP", [b"SSH-2.0-OpenSSH_9.2\r\n", Cut()], Outcome(LOCAL))
    yield Case("nothing at all", [Cut()], Outcome(LOCAL))


@dataclass(slots=True)
class Stage:
    """A provider over a real connection, and a model of this machine that always answers."""

    upstream: Upstream
    transport: Transport
    kind: ProviderKind

    def provider(self, timers: Timers | None = None) -> Provider:
        """A new one over the same connections."""
        kind, timers = self.kind, timers or LoopTimers()
        return Provider("a", kind, APIS[kind](), self.transport, timers, DEADLINES, None)

    async def run(self, case: Case) -> None:
        already, local = len(self.upstream.asked), FakeBackend(ANSWER)
        outcome, tried = await self.outcome_of(case, local, REQUEST)
        assert outcome == case.expected, case.name
        assert len(self.upstream.asked) - already == 1, case.name
        assert tried == 1 + len(local.asked), case.name
        assert len(local.asked) == (outcome.text == LOCAL), case.name

    async def run_on(self, case: Case) -> None:
        """As `run`, for a request that another may go on with."""
        local = FakeBackend(ANSWER)
        outcome, tried = await self.outcome_of(case, local, replace(REQUEST, may_continue=True))
        is_cut = case.expected.code is not None
        expected = Outcome(case.expected.text + LOCAL) if is_cut else case.expected
        assert outcome == expected, case.name
        begun = case.expected.text if is_cut else ""
        assert [request.begun for request, _ in local.asked] == [begun] * (tried - 1), case.name

    async def outcome_of(
        self, case: Case, local: FakeBackend, request: ChatRequest
    ) -> tuple[Outcome, int]:
        """As the function; where the provider stalls, time passes when it does."""
        self.upstream.scripts = [case.script]
        timers, heard = FakeTimers(), list[ChatEvent]()
        stall = next((step for step in case.script if isinstance(step, Stall)), None)
        directory = Directory[Backend](local, {"a": self.provider(timers if stall else None)})
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(outcome_of(directory, heard=heard, request=request))
            if stall is not None:
                await stall.reached.wait()
                told = case.expected.text
                while not asking.done() and case.expected.code and text_of(heard) != told:
                    await asyncio.sleep(0.001)
                while not asking.done():
                    await timers.advance(DEADLINES.first_event)
        return asking.result()


def text_of(heard: Sequence[ChatEvent]) -> str:
    return "".join(event.text for event in heard if isinstance(event, TextDelta))


async def outcome_of(
    directory: Directory[Backend],
    *,
    kept_local: str | None = None,
    heard: list[ChatEvent] | None = None,
    request: ChatRequest = REQUEST,
) -> tuple[Outcome, int]:
    """What a caller gets, and how many attempts it took; there is one end, and nothing after it.

    heard: the events are put here as they come.
    """
    health = Health(["a"], BreakerPolicy(), lambda: 1.0)
    router = Router(
        directory, health, no_accounts(), Latencies(), LoopTimers(), AttemptPolicy(), RetryBudget()
    )
    attempts = router.begin(plan_of(far("a/x"), here("tiny"), wish=Wish(kept_local)))
    heard = [] if heard is None else heard
    code = None
    try:
        async with router.open_chat(attempts, request, USER) as events:
            while not (heard and isinstance(heard[-1], Finished)):
                heard.append(await anext(events))
            assert await anext(events, None) is None
    except UnifiedLlmError as error:
        code = error.code
    assert sum(isinstance(event, Finished) for event in heard) == (code is None)
    return Outcome(text_of(heard), code), len(attempts.trail)


@asynccontextmanager
async def open_stage(
    kind: ProviderKind = ProviderKind.OPENAI_COMPATIBLE,
) -> AsyncIterator[Stage]:
    async with (
        open_upstream([Cut()]) as upstream,
        open_transport(Address(upstream.url), None) as transport,
    ):
        yield Stage(upstream, transport, kind)


def test_there_are_enough_cases() -> None:
    for dialect in DIALECTS:
        assert sum(len(list(cases(dialect))) for cases in FAMILIES) >= 400


FAMILIES: Final = (statuses, cuts, stalls, garbage, repeats)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.kind.value)
@pytest.mark.parametrize("cases", FAMILIES)
async def test_whatever_a_provider_does_the_caller_gets_one_answer_or_one_error(
    cases: Callable[[Dialect], Iterator[Case]], dialect: Dialect
) -> None:
    async with open_stage(dialect.kind) as stage:
        for case in cases(dialect):
            await stage.run(case)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.kind.value)
@pytest.mark.parametrize("cases", FAMILIES)
async def test_whatever_a_provider_does_another_goes_on_after_what_was_heard(
    cases: Callable[[Dialect], Iterator[Case]], dialect: Dialect
) -> None:
    async with open_stage(dialect.kind) as stage:
        for case in cases(dialect):
            await stage.run_on(case)


async def test_a_provider_killed_at_any_token_leaves_a_whole_answer_or_one_error() -> None:
    chance = random.Random(20)
    faults = [ProviderDown, ProviderFailed, ProviderOverloaded, RequestTimedOut]
    answered = 0
    for _ in range(1000):
        words = [f"{chance.randrange(1000)} " for _ in range(chance.randint(1, 12))]
        killed_at = chance.randint(0, len(words))
        fault = chance.choice(faults)("Killed.")
        script: list[ChatEvent | UnifiedLlmError] = [TextDelta(word) for word in words[:killed_at]]
        away, local = FakeBackend([*script, fault]), FakeBackend(ANSWER)
        outcome, _ = await outcome_of(Directory(local, {"a": away}))
        if killed_at == 0:
            assert outcome == Outcome(LOCAL)
            answered += 1
        else:
            assert outcome == Outcome("".join(words[:killed_at]), fault.code)
        assert (away.open, local.open) == (0, 0)
    assert 50 < answered < 500


async def test_nothing_that_stays_here_opens_a_connection_even_if_nothing_here_answers() -> None:
    async with open_stage() as stage:
        local = FakeBackend(refusal=NoRoom("There is no room."))
        directory = Directory[Backend](local, {"a": stage.provider()})
        for _ in range(1000):
            outcome, tried = await outcome_of(directory, kept_local="the request")
            assert (outcome, tried) == (Outcome("", "no-room"), 1)
        with pytest.raises(LocalOnly):
            async with stage.provider().chat(replace(REQUEST, local_only=True), USER):
                raise AssertionError("asked")
        assert (stage.upstream.asked, stage.upstream.connections) == ([], 0)
