"""One target after another, and one answer or one error for the caller."""

import asyncio

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.house import ANSWER, USER
from tests.fakes.timers import FakeTimers, settle
from tests.unit.routing.targets import far, here, no_accounts, plan_of
from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    Message,
    Role,
    TextDelta,
)
from unified_llm.domain.errors import (
    ContentFiltered,
    NoRoom,
    ProviderDown,
    ProviderFailed,
    ProviderOverloaded,
    UnifiedLlmError,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.routing import Attempt
from unified_llm.domain.units import Seconds
from unified_llm.routing.attempts import AttemptPolicy, Attempts
from unified_llm.routing.breaker import BreakerPolicy
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.plan import Wish
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.router import Router

REQUEST = ChatRequest(ModelId("smart"), (Message(Role.USER, "Sky?"),))
TINY, FAR = here("tiny"), far("a/x")


class Stage:
    """A router over two backends."""

    def __init__(self, away: FakeBackend, local: FakeBackend | None = None) -> None:
        self.away = away
        self.local = local or FakeBackend(ANSWER)
        self.timers = FakeTimers()
        directory = Directory(self.local, {"a": away})
        self.health = Health(["a"], BreakerPolicy(failures=2), lambda: 1.0)
        self.router = Router(
            directory,
            self.health,
            no_accounts(),
            Latencies(),
            self.timers,
            AttemptPolicy(),
            RetryBudget(),
        )
        self.attempts: Attempts

    async def ask(
        self, *, kept_local: str | None = None, heard: list[ChatEvent] | None = None
    ) -> list[ChatEvent]:
        """The whole answer; `heard` has what came of it if it fails."""
        heard = [] if heard is None else heard
        self.attempts = self.router.begin(plan_of(FAR, TINY, wish=Wish(kept_local)))
        async with self.router.open_chat(self.attempts, REQUEST, USER) as events:
            async for event in events:
                heard.append(event)
        return heard


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    "away",
    [
        FakeBackend(refusal=ProviderDown("Down.")),
        FakeBackend([ProviderFailed("Broke.")]),
        FakeBackend([Finished(FinishReason.CONTENT_FILTER, None)]),
    ],
)
async def test_a_failure_before_the_first_content_is_not_seen(away: FakeBackend) -> None:
    stage = Stage(away)
    events = await stage.ask()
    assert text_of(events) == "Blue light."
    end = events[-1]
    assert isinstance(end, Finished)
    assert [attempt.model for attempt in end.attempts] == ["a/x", "tiny"]
    assert end.attempts[-1] == Attempt(ModelId("tiny"), "local")
    assert (away.open, stage.local.open) == (0, 0)
    assert [request.model for request, _ in stage.local.asked] == ["tiny"]


async def test_a_failed_target_has_been_left_before_another_is_asked() -> None:
    away = FakeBackend([ProviderFailed("Broke.")])
    seen: list[int] = []

    class Watching(FakeBackend):
        def chat(self, request, caller):  # type: ignore[no-untyped-def]
            seen.append(away.open)
            return super().chat(request, caller)

    await Stage(away, Watching(ANSWER)).ask()
    assert seen == [0]


async def test_after_the_first_content_the_error_is_told_once_and_nobody_else_asked() -> None:
    stage = Stage(FakeBackend([TextDelta("Bl"), ProviderFailed("Broke.")]))
    heard: list[ChatEvent] = []
    with pytest.raises(ProviderFailed):
        await stage.ask(heard=heard)
    assert text_of(heard) == "Bl"
    assert stage.local.asked == []
    assert stage.attempts.trail == (Attempt(ModelId("a/x"), "a", "provider-failed"),)


async def test_when_nobody_answers_one_error_tells_of_all() -> None:
    stage = Stage(FakeBackend(refusal=ProviderDown("Down.")), FakeBackend(refusal=NoRoom("Full.")))
    with pytest.raises(UnifiedLlmError) as told:
        await stage.ask()
    assert "a/x (provider-down), tiny (no-room)" in told.value.hint


async def test_a_filter_that_lets_nothing_through_is_a_refusal() -> None:
    filtered = [Finished(FinishReason.CONTENT_FILTER, None)]
    stage = Stage(FakeBackend(filtered), FakeBackend(filtered))
    with pytest.raises(ContentFiltered):
        await stage.ask()


async def test_what_stays_here_says_so_to_every_backend() -> None:
    stage = Stage(FakeBackend(ANSWER))
    await stage.ask(kept_local="the request")
    assert stage.away.asked == []
    assert [request.local_only for request, _ in stage.local.asked] == [True]


async def test_a_provider_is_waited_for_as_long_as_it_asked() -> None:
    busy = ProviderOverloaded("Busy.", retry_after=Seconds(2))
    stage = Stage(FakeBackend(refusal=busy), FakeBackend(refusal=NoRoom("Full.")))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(stage.ask())
        await settle()
        stage.away.refusal, stage.away.script = None, list(ANSWER)
        await stage.timers.advance(1.9)
        assert len(stage.away.asked) == 1
        await stage.timers.advance(0.2)
        events = await asking
    assert text_of(events) == "Blue light."
    assert [attempt.code for attempt in stage.attempts.trail] == [
        "provider-overloaded",
        "no-room",
        None,
    ]


async def test_a_backend_that_ends_without_its_end_is_a_bug() -> None:
    with pytest.raises(EOFError):
        await Stage(FakeBackend([])).ask()


async def test_whoever_leaves_frees_the_target() -> None:
    stage = Stage(FakeBackend([TextDelta("Bl"), asyncio.Event()]))
    attempts = stage.router.begin(plan_of(FAR, TINY))
    async with stage.router.open_chat(attempts, REQUEST, USER) as events:
        await anext(events)
        assert stage.away.open == 1
    assert stage.away.open == 0


async def test_a_provider_that_fails_too_often_is_not_asked_until_it_was_tried_again() -> None:
    stage = Stage(FakeBackend([ProviderFailed("Broke.")]))
    for _ in range(4):
        await stage.ask()
    assert len(stage.away.asked) == 2
    await stage.timers.advance(30)
    stage.away.script = list(ANSWER)
    assert text_of(await stage.ask()) == "Blue light."
    await stage.ask()
    assert len(stage.away.asked) == 4


async def test_the_pause_that_is_told_is_kept_by_later_requests() -> None:
    busy = ProviderOverloaded("Busy.", retry_after=Seconds(3))
    stage = Stage(FakeBackend(refusal=busy))
    await stage.ask()
    await stage.ask()
    assert len(stage.away.asked) == 1
    await stage.timers.advance(3)
    await stage.ask()
    assert len(stage.away.asked) == 2


async def test_the_time_to_the_first_content_is_measured() -> None:
    waiting = asyncio.Event()
    stage = Stage(FakeBackend([waiting, *ANSWER]))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(stage.ask())
        await stage.timers.advance(3)
        waiting.set()
        await asking
    measured = stage.router.latencies.expected(FAR.model, stage.timers.now(), is_resident=False)
    assert measured == Seconds(3)


async def test_providers_that_are_down_get_a_fifth_more_requests_at_most() -> None:
    away = FakeBackend(refusal=ProviderOverloaded("Busy."))
    directory = Directory(FakeBackend(ANSWER), {"a": away, "b": away})
    health = Health([], BreakerPolicy(), lambda: 1.0)
    policy, budget = AttemptPolicy(), RetryBudget()
    router = Router(directory, health, no_accounts(), Latencies(), FakeTimers(), policy, budget)
    for _ in range(1000):
        attempts = router.begin(plan_of(FAR, far("b/y"), far("b/z")))
        with pytest.raises(ProviderOverloaded):
            async with router.open_chat(attempts, REQUEST, USER):
                raise AssertionError("answered")
    assert 1000 < len(away.asked) <= 1000 * 1.2 + 10
