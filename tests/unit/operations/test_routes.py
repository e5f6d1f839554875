"""Names as users ask for them, over the models there are."""

import asyncio
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import PurePath

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.house import (
    ANSWER,
    BIG,
    ROOT,
    STRANGER,
    TINY,
    USER,
    House,
    make_spec,
    open_house,
)
from tests.fakes.timers import settle
from unified_llm.domain.arrival import Arrival
from unified_llm.domain.chat import ChatRequest, Finished, Message, Role
from unified_llm.domain.errors import (
    InvalidRequest,
    LocalOnly,
    ModelFailedToLoad,
    NotPermitted,
    ProviderDenied,
    ProviderDown,
    UnknownModel,
)
from unified_llm.domain.images import Image, ImageFormat
from unified_llm.domain.models import Adapter, FileIdentity, ModelId, Projector
from unified_llm.domain.money import Money, Price
from unified_llm.domain.providers import ProviderKind, RemoteModel
from unified_llm.domain.routing import AUTO, Attempt, Route, Rule, Strategy, When
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.operations.routes import Question
from unified_llm.routing.candidates import LOCAL, Candidate
from unified_llm.routing.health import Trouble
from unified_llm.routing.own_strategy import OwnStrategy
from unified_llm.routing.routes import RouteBook
from unified_llm.routing.rules import Asking

FAR, SMART = ModelId("far/model"), ModelId("smart")
REMOTE = RemoteModel(FAR, "far", ProviderKind.OPENAI, "model")
BOOK = RouteBook(
    routes={SMART: Route(SMART, Strategy.CLOUD_FIRST, (TINY, FAR))},
    aliases={ModelId("gpt-4o"): SMART},
    fallbacks={FAR: (TINY,)},
)


def request(model: ModelId, *, local_only: bool = False) -> ChatRequest:
    return ChatRequest(model, (Message(Role.USER, "Sky?"),), local_only=local_only)


async def end_of(house: House, asked: ChatRequest) -> Finished:
    async with house.inference.open_chat(USER, asked) as events:
        async for event in events:
            if isinstance(event, Finished):
                return event
    raise AssertionError("no end")


async def test_a_route_asks_its_targets_and_the_audit_log_says_which() -> None:
    away = FakeBackend(refusal=ProviderDown("Down."))
    async with open_house(providers={"far": away}, book=BOOK) as house:
        house.models.replace_remote({FAR: REMOTE})
        end = await end_of(house, request(ModelId("gpt-4o")))
        await end_of(house, request(FAR))
    assert end.attempts == (Attempt(FAR, "far", "provider-down"), Attempt(TINY, "local"))
    first, second = house.trail.records
    assert first["UNIFIED_LLM_OBJECT"] == "gpt-4o"
    assert second["UNIFIED_LLM_OBJECT"] == "far/model"
    for record in (first, second):
        assert record["UNIFIED_LLM_TRIED"] == "far/model=provider-down tiny"
        assert record["UNIFIED_LLM_BACKEND"] == "local"


async def test_what_stays_here_reaches_no_provider_by_any_name() -> None:
    away = FakeBackend(ANSWER)
    async with open_house(providers={"far": away}, book=BOOK) as house:
        house.models.replace_remote({FAR: REMOTE})
        for name in (SMART, ModelId("gpt-4o"), FAR, AUTO, TINY):
            end = await end_of(house, request(name, local_only=True))
            assert [attempt.backend for attempt in end.attempts] == ["local"]
        house.models.replace_remote({ModelId("far/other"): REMOTE})
        with pytest.raises(LocalOnly, match="far/other"):
            await end_of(house, request(ModelId("far/other"), local_only=True))
    assert away.asked == []


async def test_a_user_may_be_kept_on_this_machine() -> None:
    away = FakeBackend(ANSWER)
    book = RouteBook(local_only_callers=frozenset({USER.principal}), routes=BOOK.routes)
    async with open_house(providers={"far": away}, book=book) as house:
        house.models.replace_remote({FAR: REMOTE})
        await end_of(house, request(SMART))
        found = await house.routes.explain(USER, SMART, Question())
    assert away.asked == []
    assert found.kept_local == "a rule for uid:1000"


async def test_auto_is_every_sound_model_of_this_machine() -> None:
    async with open_house() as house:
        found = await house.routes.explain(USER, AUTO, Question())
        assert {target.model for target in found.targets} == {TINY, BIG}
        house.set_models()
        with pytest.raises(UnknownModel, match="there is none"):
            await end_of(house, request(AUTO))


async def test_an_explanation_tells_of_every_target_and_asks_nobody() -> None:
    away = FakeBackend(ANSWER)
    async with open_house(providers={"far": away}, book=BOOK) as house:
        house.models.replace_remote({FAR: REMOTE})
        found = await house.routes.explain(USER, SMART, Question(local_only=True))
        long = await house.routes.explain(USER, SMART, Question(prompt_tokens=Tokens(5000)))
    assert [(each.model, each.place) for each in found.targets] == [(TINY, 1), (FAR, None)]
    assert "keeps the request here" in found.targets[1].reason
    assert [(each.model, each.place) for each in long.targets] == [(FAR, 1), (TINY, None)]
    assert away.asked == []


async def test_the_longest_prompt_is_explained_without_being_made() -> None:
    longest = Tokens(2**31)
    async with open_house(providers={"far": FakeBackend()}, book=BOOK) as house:
        house.models.replace_remote({FAR: REMOTE})
        tracemalloc.start()
        found = await house.routes.explain(USER, SMART, Question(prompt_tokens=longest))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert [each.place for each in found.targets] == [1, None]
    assert peak < 2**20


async def test_turns_are_taken_by_requests_and_not_by_looking() -> None:
    book = RouteBook({SMART: Route(SMART, Strategy.ROUND_ROBIN, (TINY, BIG))})
    async with open_house(book=book) as house:
        asked = []
        for _ in range(4):
            await house.routes.explain(USER, SMART, Question())
            with house.inference.open_admission(USER, request(SMART)):
                pass
            end = await end_of(house, request(SMART))
            asked.append(end.attempts[0].model)
    assert asked == [TINY, BIG, TINY, BIG]


async def test_nobody_but_users_is_answered_under_any_name() -> None:
    async with open_house(book=BOOK) as house:
        with pytest.raises(NotPermitted):
            async with house.inference.open_chat(STRANGER, request(SMART)):
                raise AssertionError("answered")


async def test_a_provider_in_trouble_is_skipped_and_status_says_why() -> None:
    away = FakeBackend(refusal=ProviderDenied("Wrong key."))
    async with open_house(providers={"far": away}, book=BOOK) as house:
        house.models.replace_remote({FAR: REMOTE})
        await end_of(house, request(SMART))
        found = await house.routes.explain(USER, SMART, Question())
        report = await house.status.report(USER)
    skipped = found.targets[-1]
    assert (skipped.model, skipped.place) == (FAR, None)
    assert skipped.reason.endswith("it is denying.")
    assert [(each.provider, each.trouble) for each in report.providers] == [
        ("far", Trouble.DENYING)
    ]


async def test_names_that_lead_nowhere_are_complaints() -> None:
    book = RouteBook(
        routes={TINY: Route(TINY, Strategy.IN_ORDER, (ModelId("gone"), FAR))},
        fallbacks={BIG: (ModelId("away"),)},
    )
    async with open_house(book=book) as house:
        assert house.routes.complaints() == (
            "the model tiny can not be asked: a route has its name",
            "routing names the model away, which is not there",
            "routing names the model gone, which is not there",
        )


async def test_an_explanation_compares_seconds_dollars_and_who_would_leave() -> None:
    price = Price(Money(2), Money(3))
    book = RouteBook({SMART: Route(SMART, Strategy.LATENCY_OPTIMISED, (TINY, BIG, FAR))})
    async with open_house(
        providers={"far": FakeBackend(ANSWER)}, book=book, prices={FAR: price}
    ) as house:
        house.models.replace_remote({FAR: REMOTE})
        await house.scheduler.ensure_loaded(TINY, "uid:1000", timeout=Seconds(60))
        house.clock.advance(5)
        latencies = house.routes.prospects.latencies
        latencies.observe(Candidate(FAR, "far"), Seconds(2), house.clock.now())
        found = await house.routes.explain(USER, SMART, Question(prompt_tokens=Tokens(10)))
    warm, away, cold = found.targets
    assert (warm.model, warm.is_resident, warm.cost, warm.loading) == (TINY, True, Money(0), None)
    assert (away.model, away.first_content, away.leaving) == (FAR, Seconds(2), ())
    assert away.cost == Money(10 * 2 + 4096 * 3)
    assert (cold.model, cold.first_content, cold.loading, cold.leaving) == (BIG, None, None, ())


async def test_the_time_of_a_load_is_reckoned_with_what_came_after_it() -> None:
    book = RouteBook({SMART: Route(SMART, Strategy.COST_OPTIMISED, (TINY, BIG))})
    async with open_house(book=book, obedient=False) as house:
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(
                house.scheduler.ensure_loaded(TINY, "uid:1000", timeout=Seconds(60))
            )
            await settle()
            house.clock.advance(7)
            house.workers.finish_load(TINY)
            await loading
            resident = Candidate(TINY, LOCAL, is_resident=True)
            house.routes.prospects.latencies.observe(resident, Seconds(1), house.clock.now())
            leaving = group.create_task(
                house.scheduler.unload(TINY, "uid:1000", timeout=Seconds(60))
            )
            await settle()
            house.workers.finish_stop(TINY)
            await leaving
        found = await house.routes.explain(USER, SMART, Question())
    (told,) = (each for each in found.targets if each.model == TINY)
    assert (told.loading, told.first_content) == (Seconds(7), Seconds(8))


RULED = RouteBook(
    routes={
        SMART: Route(
            SMART,
            Strategy.ROUND_ROBIN,
            (TINY, FAR),
            rules=(
                Rule(When(stays_local=True), targets=(BIG,)),
                Rule(When(has_tools=True, least_prompt=Bytes(100)), (FAR,), Strategy.CLOUD_FIRST),
            ),
        )
    },
    aliases={ModelId("gpt-4o"): SMART},
)


async def test_a_rule_changes_who_is_asked_and_the_explanation_says_which() -> None:
    async with open_house(providers={"far": FakeBackend(ANSWER)}, book=RULED) as house:
        house.models.replace_remote({FAR: REMOTE})
        end = await end_of(house, request(SMART, local_only=True))
        assert [attempt.model for attempt in end.attempts] == [BIG]
        plain = await house.routes.explain(USER, SMART, Question(has_tools=True))
        large = await house.routes.explain(USER, SMART, Question(has_tools=True, prompt=Bytes(100)))
    assert [(each.model, each.place) for each in plain.targets] == [(TINY, 1), (FAR, 2)]
    assert [each.applies for each in plain.rules] == [False, False]
    assert (large.route.strategy, [each.model for each in large.targets]) == ("cloud-first", [FAR])
    assert [(each.number, each.applies, each.why) for each in large.rules] == [
        (1, False, "it may leave the machine"),
        (2, True, "the prompt has 100 bytes, at least 100, and it comes with tools"),
    ]


async def test_each_set_of_targets_has_turns_of_its_own() -> None:
    rule = Rule(When(stays_local=True), targets=(BIG, TINY))
    route = Route(SMART, Strategy.ROUND_ROBIN, (TINY, BIG), rules=(rule,))
    async with open_house(book=RouteBook({SMART: route})) as house:
        asked = []
        for stays in (False, True, False, True):
            end = await end_of(house, request(SMART, local_only=stays))
            asked.append(end.attempts[0].model)
    assert asked == [TINY, BIG, BIG, TINY]


async def test_another_book_is_gone_by_from_the_next_request_on() -> None:
    book = RouteBook({SMART: Route(SMART, Strategy.ROUND_ROBIN, (TINY, BIG))})
    other = Route(ModelId("other"), Strategy.IN_ORDER, (BIG,))
    async with open_house(book=book) as house:
        async with house.inference.open_chat(USER, request(SMART)) as events:
            house.routes.follow(RouteBook({**book.routes, other.name: other}))
            async for event in events:
                if isinstance(event, Finished):
                    assert event.attempts == (Attempt(TINY, "local"),)
        assert (await end_of(house, request(other.name))).attempts == (Attempt(BIG, "local"),)
        assert (await end_of(house, request(SMART))).attempts == (Attempt(BIG, "local"),)
        house.routes.follow(RouteBook())
        with pytest.raises(UnknownModel):
            await end_of(house, request(SMART))


async def test_models_that_only_a_rule_names_are_missed_too() -> None:
    rule = Rule(When(has_tools=True), targets=(ModelId("gone"),))
    book = RouteBook({SMART: Route(SMART, Strategy.IN_ORDER, (TINY,), rules=(rule,))})
    async with open_house(book=book) as house:
        assert house.routes.complaints() == ("routing names the model gone, which is not there",)


async def test_explanations_of_many_models_let_others_be_answered_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = tuple(ModelId(f"model-{number}") for number in range(8))
    async with open_house(book=RouteBook({SMART: Route(SMART, Strategy.IN_ORDER, names)})) as house:
        house.set_models(*names)
        forecast = house.scheduler.forecast

        def reckon(model: ModelId) -> Arrival:
            house.clock.advance(0.003)
            return forecast(model)

        monkeypatch.setattr(house.scheduler, "forecast", reckon)
        begun, turns = house.clock.now(), [house.clock.now()]
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(house.routes.explain(USER, SMART, Question())) for _ in range(3)
            ]
            while not all(each.done() for each in asked):
                await asyncio.sleep(0)
                turns.append(house.clock.now())
        assert [len(each.result().targets) for each in asked] == [8] * 3
        assert house.clock.now() - begun > 23 * 0.003
        assert max(after - before for before, after in pairwise(turns)) < 0.004


LAW, BROKEN = ModelId("tiny:law"), ModelId("tiny:broken")


def set_adapters(house: House) -> None:
    """TINY has a sound adapter and a broken one."""
    path = PurePath("/nowhere")
    adapters = (
        Adapter("law", path, 1.0, FileIdentity(1, 2, Bytes(3), 4), None),
        Adapter("broken", path, 1.0, None, "There is no such file."),
    )
    tiny = replace(make_spec(TINY), adapters=adapters)
    house.models.replace_catalogue({TINY: tiny, BIG: make_spec(BIG)})


async def test_an_adapter_is_asked_by_a_name_of_its_own() -> None:
    book = RouteBook(aliases={ModelId("lawyer"): LAW})
    async with open_house(book=book) as house:
        set_adapters(house)
        for name in (LAW, ModelId("lawyer"), TINY):
            end = await end_of(house, request(name))
            assert end.attempts == (Attempt(TINY if name == TINY else LAW, "local"),)
        asked = [(each.model, each.adapter) for each, _ in house.backend.asked]
        assert house.routes.complaints() == ()
        view = house.models.get(USER, LAW)
    assert asked == [(TINY, "law"), (TINY, "law"), (TINY, None)]
    assert (view.spec.id, view.adapter and view.adapter.name) == (TINY, "law")
    assert house.trail.records[0]["UNIFIED_LLM_OBJECT"] == "tiny:law"


async def test_an_adapter_that_is_not_allowed_is_refused_with_those_that_are() -> None:
    async with open_house() as house:
        set_adapters(house)
        with pytest.raises(InvalidRequest, match="tiny has no adapter 'prose'") as refusal:
            await end_of(house, request(ModelId("tiny:prose")))
        assert refusal.value.hint == "It has law, broken."
        with pytest.raises(ModelFailedToLoad, match=r"broken of tiny can not .* no such file"):
            await end_of(house, request(BROKEN))
        with pytest.raises(UnknownModel, match="no model 'org/big:q4:law'"):
            await end_of(house, request(ModelId("org/big:q4:law")))
        with pytest.raises(InvalidRequest, match="tiny:law is an adapter of tiny"):
            house.models.begin_load(ROOT, LAW)
    assert house.backend.asked == []


async def test_a_strategy_of_somebody_elses_orders_what_may_be_asked_and_its_faults_are_told() -> (
    None
):
    def cloud(targets: Sequence[Candidate], asking: Asking) -> list[ModelId]:
        assert asking.model == SMART
        return [FAR]

    route = Route(SMART, Strategy.CUSTOM, (TINY, FAR), custom="mine")
    book = RouteBook(
        {SMART: route}, strategies={"mine": OwnStrategy("mine", cloud, FakeClock().now)}
    )
    async with open_house(providers={"far": FakeBackend(ANSWER)}, book=book) as house:
        house.models.replace_remote({FAR: REMOTE})
        assert (await end_of(house, request(SMART))).attempts == (Attempt(FAR, "far"),)
        assert house.routes.complaints() == ()
        stays = await end_of(house, request(SMART, local_only=True))
        assert stays.attempts == (Attempt(TINY, "local"),)
        assert house.routes.complaints() == (
            "strategy mine named what is not among the targets: its routes ask as they are written",
        )
        found = await house.routes.explain(USER, SMART, Question(local_only=True))
    assert found.targets[0].reason.startswith("as written: strategy mine")


async def test_an_image_is_shown_only_to_those_who_see() -> None:
    image = Image(ImageFormat.PNG, b"", place=0)
    shown = replace(request(TINY), messages=(Message(Role.USER, "Sky?", images=(image,)),))
    seeing = Projector(PurePath("/mmproj"), FileIdentity(1, 2, Bytes(3), 4), None)
    book = RouteBook(routes={SMART: Route(SMART, Strategy.IN_ORDER, (BIG, TINY))})
    async with open_house(book=book) as house:
        tiny = replace(make_spec(TINY), projector=seeing)
        house.models.replace_catalogue({TINY: tiny, BIG: make_spec(BIG)})
        end = await end_of(house, replace(shown, model=SMART))
        assert end.attempts == (Attempt(TINY, "local"),)
        with pytest.raises(InvalidRequest, match="org/big:q4 reads text only"):
            await end_of(house, replace(shown, model=BIG))
        blind = replace(tiny, projector=replace(seeing, defect="There is no such file."))
        house.models.replace_catalogue({TINY: blind})
        with pytest.raises(ModelFailedToLoad, match=r"projector of tiny can not .* no such file"):
            await end_of(house, shown)
