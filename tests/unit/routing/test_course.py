"""An answer that breaks off, and another target that goes on with it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.house import USER
from tests.fakes.timers import FakeTimers
from tests.unit.routing.targets import far, here, route
from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    Continued,
    Finished,
    FinishReason,
    JsonAnswer,
    Message,
    ReasoningDelta,
    RefusalDelta,
    Role,
    TextDelta,
    Tool,
    ToolCallDelta,
    ToolUse,
    Usage,
)
from unified_llm.domain.errors import (
    Cancelled,
    NoRoom,
    ProviderDown,
    ProviderFailed,
    UnifiedLlmError,
    WorkerDied,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money, Price
from unified_llm.domain.ports import Backend
from unified_llm.domain.routing import Attempt, Strategy
from unified_llm.domain.units import Tokens
from unified_llm.domain.usage import UsageLine
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.attempts import AttemptPolicy, Attempts
from unified_llm.routing.breaker import BreakerPolicy
from unified_llm.routing.budget import Budgets, Limit, Period
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.plan import Wish, make_plan
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.router import Router

TEXT = "one two three four"
FAR, FARTHER, TINY = far("a/x"), far("b/y"), here("tiny")
BROKE = ProviderFailed("Broke.")
REQUEST = ChatRequest(ModelId("smart"), (Message(Role.USER, "Count."),), may_continue=True)
PRICE = Price(Money(1), Money(1))
TOOLS = ToolUse((Tool("look", "", "{}"),))


@dataclass(slots=True)
class Speaker:
    """A Backend that says TEXT by words, and what `begun` leaves of it.

    breaks_after: pieces after which it fails with `fault`; None never.
    """

    breaks_after: int | None = None
    fault: UnifiedLlmError = field(default_factory=lambda: BROKE)
    before: tuple[ChatEvent, ...] = ()
    asked: list[ChatRequest] = field(default_factory=list)
    open: int = 0

    @asynccontextmanager
    async def chat(
        self, request: ChatRequest, caller: Caller
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        self.asked.append(request)
        self.open += 1
        try:
            async with aclosing(self._events(request.begun)) as events:
                yield events
        finally:
            self.open -= 1

    async def _events(self, begun: str) -> AsyncGenerator[ChatEvent, None]:
        assert TEXT.startswith(begun)
        for event in self.before:
            yield event
        left = TEXT.removeprefix(begun)
        pieces = [left[at : at + 3] for at in range(0, len(left), 3)]
        for place, piece in enumerate(pieces):
            if place == self.breaks_after:
                raise self.fault
            yield TextDelta(piece)
        if self.breaks_after is not None and self.breaks_after >= len(pieces):
            raise self.fault
        yield Finished(FinishReason.STOP, Usage(Tokens(5), Tokens(len(pieces))))


@dataclass(slots=True)
class Stage:
    """A router over two providers and this machine; everything costs, and nothing may be over."""

    away: Backend
    farther: Backend
    local: Backend
    lines: list[UsageLine] = field(default_factory=list)
    heard: list[ChatEvent] = field(default_factory=list)
    attempts: Attempts = field(init=False)
    budgets: Budgets = field(init=False)

    async def ask(
        self,
        request: ChatRequest = REQUEST,
        *,
        continues: bool = False,
        candidates: tuple[Candidate, ...] = (FAR, FARTHER, TINY),
        kept_local: str | None = None,
    ) -> UnifiedLlmError | None:
        """What ended it, if it was an error."""
        prices = {FAR.model: PRICE, FARTHER.model: PRICE}
        self.budgets = Budgets([Limit("all", Money(10**9), Period.DAY)])
        accounts = Accounts(prices, self.budgets, lambda: "2026-11-22", self.lines.append)
        router = Router(
            Directory(self.local, {"a": self.away, "b": self.farther}),
            Health(["a", "b"], BreakerPolicy(), lambda: 1.0),
            accounts,
            Latencies(),
            FakeTimers(),
            AttemptPolicy(),
            RetryBudget(),
        )
        asked = replace(route(Strategy.IN_ORDER, *candidates), continues=continues)
        self.attempts = router.begin(make_plan(asked, candidates, Wish(kept_local)))
        try:
            async with router.open_chat(self.attempts, request, USER) as events:
                async for event in events:
                    self.heard.append(event)
                    if isinstance(event, Finished):
                        assert await anext(events, None) is None
                        return None
        except UnifiedLlmError as error:
            return error
        raise AssertionError("no end")

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.heard if isinstance(event, TextDelta))

    @property
    def changes(self) -> list[Continued]:
        return [event for event in self.heard if isinstance(event, Continued)]

    @property
    def end(self) -> Finished:
        assert isinstance(self.heard[-1], Finished)
        return self.heard[-1]


def speakers(*breaks: int | None) -> Stage:
    away, farther, local = (Speaker(each) for each in breaks)
    return Stage(away, farther, local)


async def test_another_target_goes_on_where_the_first_broke_off_and_the_place_is_marked() -> None:
    stage = Stage(Speaker(2), farther := Speaker(), Speaker())
    assert await stage.ask() is None
    assert stage.text == TEXT
    assert stage.changes == [Continued(FARTHER.model, "b", 6)]
    place = stage.heard.index(stage.changes[0])
    before = [event.text for event in stage.heard[:place] if isinstance(event, TextDelta)]
    assert "".join(before) == TEXT[:6]
    assert [request.begun for request in farther.asked] == [TEXT[:6]]
    assert stage.end.continued == tuple(stage.changes)
    assert stage.end.attempts == (
        Attempt(FAR.model, "a", "provider-failed"),
        Attempt(FARTHER.model, "b"),
    )


async def test_both_are_written_down_and_what_is_not_known_of_one_is_not_known_of_both() -> None:
    stage = speakers(2, None, None)
    await stage.ask()
    assert (stage.end.usage, stage.end.cost) == (None, None)
    first, second = stage.lines
    assert (first.model, first.answers, first.estimated) == (FAR.model, 1, 1)
    assert first.cost > 0
    assert (second.model, second.answers, second.completion_tokens) == (FARTHER.model, 1, 4)
    spent = sum(stage.budgets.spent().values())
    assert spent == first.cost + second.cost


async def test_what_this_machine_began_costs_nothing_more() -> None:
    stage = speakers(None, None, 2)
    assert await stage.ask(candidates=(TINY, FAR)) is None
    assert stage.text == TEXT
    (_, line) = stage.lines
    assert stage.end.cost == line.cost > 0


async def test_nobody_goes_on_unless_the_request_or_the_route_wants_it() -> None:
    unasked = replace(REQUEST, may_continue=None)
    for request, continues, goes_on in (
        (unasked, False, False),
        (unasked, True, True),
        (replace(REQUEST, may_continue=False), True, False),
        (REQUEST, False, True),
    ):
        stage = speakers(2, None, None)
        error = await stage.ask(request, continues=continues)
        assert (error is None, stage.text == TEXT) == (goes_on, goes_on)
        assert error is None or error is BROKE


@pytest.mark.parametrize(
    "changes", [{"tool_use": TOOLS}, {"answer": JsonAnswer()}, {"top_logprobs": 0}]
)
async def test_what_is_more_than_text_is_never_continued(changes: dict[str, Any]) -> None:
    stage = speakers(2, None, None)
    request = replace(REQUEST, may_continue=None, **changes)
    assert await stage.ask(request, continues=True) is BROKE
    assert (stage.text, stage.changes) == (TEXT[:6], [])


@pytest.mark.parametrize(
    "before",
    [
        (ReasoningDelta("Hm."),),
        (RefusalDelta("No."),),
        (ToolCallDelta(0, "c", "look"),),
        (TextDelta("one"), ReasoningDelta("Hm.")),
    ],
)
async def test_only_text_that_has_begun_is_gone_on_with(before: tuple[ChatEvent, ...]) -> None:
    stage = Stage(Speaker(0, before=before), Speaker(), Speaker())
    assert await stage.ask() is BROKE
    assert stage.heard == list(before)


async def test_thoughts_before_the_text_are_no_hindrance() -> None:
    stage = Stage(Speaker(2, before=(ReasoningDelta("Hm."),)), Speaker(), Speaker())
    assert await stage.ask() is None
    assert stage.text == TEXT


async def test_a_limit_of_tokens_is_shared_by_all_who_speak() -> None:
    stage = Stage(Speaker(2), farther := Speaker(), Speaker())
    await stage.ask(replace(REQUEST, max_tokens=Tokens(9)))
    assert [request.max_tokens for request in farther.asked] == [Tokens(7)]
    used_up = speakers(2, None, None)
    assert await used_up.ask(replace(REQUEST, max_tokens=Tokens(2))) is BROKE


async def test_only_who_can_go_on_is_asked_to() -> None:
    stage = Stage(Speaker(2), farther := Speaker(), local := Speaker())
    beginner = replace(FARTHER, takes_begun=False)
    assert await stage.ask(candidates=(FAR, beginner, TINY)) is None
    assert (farther.asked, len(local.asked), stage.text) == ([], 1, TEXT)


async def test_if_nobody_can_go_on_the_caller_is_told_what_broke_off() -> None:
    down, full = ProviderDown("Down."), NoRoom("Full.")
    stage = Stage(Speaker(2), Speaker(0, down), Speaker(0, full))
    assert await stage.ask() is BROKE
    assert [attempt.code for attempt in stage.attempts.trail] == [
        "provider-failed",
        "provider-down",
        "no-room",
    ]


async def test_what_ends_a_request_ends_it_in_the_middle_too() -> None:
    stage = Stage(Speaker(2, Cancelled("Gone.")), Speaker(), Speaker())
    assert isinstance(await stage.ask(), Cancelled)
    died = Stage(Speaker(), Speaker(), Speaker(2, WorkerDied("Died.")))
    assert isinstance(await died.ask(candidates=(TINY, here("other"))), WorkerDied)
    assert died.changes == []


async def test_what_stays_here_is_continued_here_only() -> None:
    stage = Stage(away := Speaker(), Speaker(), Speaker(2, NoRoom("Full.")))
    assert isinstance(await stage.ask(candidates=(TINY, FAR), kept_local="the request"), NoRoom)
    assert away.asked == []


async def test_a_target_that_broke_off_has_been_left_before_another_is_asked() -> None:
    away = Speaker(2)
    seen: list[int] = []

    class Watching(Speaker):
        def chat(self, request, caller):  # type: ignore[no-untyped-def]
            seen.append(away.open)
            return super().chat(request, caller)

    stage = Stage(away, farther := Watching(), Speaker())
    await stage.ask()
    assert (seen, away.open, farther.open) == ([0], 0, 0)


BREAKS = st.none() | st.integers(0, 8)
FAULTS = st.sampled_from([BROKE, ProviderDown("Down."), NoRoom("Full."), WorkerDied("Died.")])


@given(
    st.lists(st.tuples(BREAKS, FAULTS), min_size=3, max_size=3),
    st.sets(st.sampled_from([0, 1, 2])),
    st.none() | st.integers(1, 12).map(Tokens),
)
def test_wherever_targets_break_there_is_never_a_duplicate_nor_a_silent_cut(
    fates: list[tuple[int | None, UnifiedLlmError]], beginners: set[int], limit: Tokens | None
) -> None:
    asyncio.run(break_everywhere(fates, beginners, limit))


async def break_everywhere(
    fates: list[tuple[int | None, UnifiedLlmError]], beginners: set[int], limit: Tokens | None
) -> None:
    speaking = [Speaker(breaks, fault) for breaks, fault in fates]
    away, farther, local = speaking
    stage = Stage(away, farther, local)
    candidates = tuple(
        replace(each, takes_begun=place not in beginners)
        for place, each in enumerate((FAR, FARTHER, TINY))
    )
    error = await stage.ask(replace(REQUEST, max_tokens=limit), candidates=candidates)
    assert TEXT.startswith(stage.text)
    if error is None:
        assert stage.text == TEXT
    else:
        assert not any(isinstance(event, Finished) for event in stage.heard)
    heard = 0
    for event in stage.heard:
        if isinstance(event, TextDelta):
            heard += len(event.text)
        elif isinstance(event, Continued):
            assert event.offset == heard > 0
    assert [each.open for each in speaking] == [0, 0, 0]
    spoke = [each for each in speaking for asked in each.asked if asked.begun]
    assert len(stage.changes) <= len(spoke)
    assert all(account.held == 0 for account in stage.budgets._accounts.values())
    assert sum(line.cost for line in stage.lines) == sum(stage.budgets.spent().values())
