"""The policy file and what is asked agree; only a clear yes is a yes."""

import asyncio
import xml.etree.ElementTree as ET
from typing import Any, cast

import pytest

from tests.private_polkit import EXAMPLE, POLICY, RULES
from tests.static.places import REPOSITORY
from unified_llm.bus.connection import BusConnection
from unified_llm.bus.faults import NO_REPLY, BusFault
from unified_llm.bus.values import Variant
from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.errors import (
    AuthenticationDismissed,
    AuthenticationRequired,
    NotPermitted,
    RateLimited,
)
from unified_llm.guard.permissions import GRANTED_TO, Action, Role
from unified_llm.guard.polkit import (
    ACTION_IDS,
    INTERACTION_SECONDS,
    MAX_DETAIL_CHARACTERS,
    MAX_PENDING_PER_USER,
    PolkitAuthority,
)

PAGE = REPOSITORY / "docs" / "reference" / "polkit.md"
USER = Caller(1000, frozenset({1000}), 42, Door.DBUS, ":1.7")
KEEP, ADMIN, NO, YES = "auth_admin_keep", "auth_admin", "no", "yes"
# Who has no session at the machine, who is not at its screen, who is.
DEFAULTS = {
    "infer": (ADMIN, YES, YES),
    "load-model": (KEEP, KEEP, YES),
    "unload-model": (KEEP, KEEP, YES),
    "scan-models": (ADMIN, NO, YES),
    "import-model": (ADMIN, NO, KEEP),
    "remove-model": (ADMIN, NO, KEEP),
    "manage-jobs": (ADMIN, NO, KEEP),
    "reserve-vram": (NO, NO, YES),
    "inhibit": (NO, NO, YES),
    "configure": (ADMIN, NO, KEEP),
    "reload": (ADMIN, NO, KEEP),
}


def declared() -> dict[str, ET.Element]:
    return {str(each.get("id")): each for each in ET.parse(POLICY).getroot().findall("action")}


def test_every_action_that_is_asked_about_is_declared_and_no_other() -> None:
    assert declared().keys() == set(ACTION_IDS.values())


def test_every_action_that_is_not_for_anyone_has_a_name_at_polkit() -> None:
    closed = {each.right for each, roles in GRANTED_TO.items() if Role.ANYONE not in roles}
    assert closed == ACTION_IDS.keys()


@pytest.mark.parametrize("action", sorted(declared()))
def test_an_action_names_its_owner_and_can_be_translated(action: str) -> None:
    found = declared()[action]
    owners = [
        each.text
        for each in found.findall("annotate")
        if each.get("key") == "org.freedesktop.policykit.owner"
    ]
    assert owners == ["unix-user:unified-llm"]
    for tag in ("description", "message"):
        (text,) = found.findall(tag)
        assert text.get("gettext-domain") == "unified-llm"
        assert text.text


def test_the_defaults_are_these() -> None:
    found = {
        name.removeprefix("org.unifiedllm1."): tuple(
            each.findtext(f"defaults/{who}")
            for who in ("allow_any", "allow_inactive", "allow_active")
        )
        for name, each in declared().items()
    }
    assert found == DEFAULTS


def test_the_page_shows_the_defaults_and_the_example() -> None:
    page = PAGE.read_text()
    for name, defaults in DEFAULTS.items():
        shown = " | ".join(f"`{default}`" for default in defaults)
        assert f"| `org.unifiedllm1.{name}` | {shown} |" in page
    assert EXAMPLE.read_text() in page


def test_the_rules_name_every_action_and_no_other() -> None:
    text = RULES.read_text()
    for name in ACTION_IDS.values():
        assert name.removeprefix("org.unifiedllm1.") in text
    assert 'action.lookup("model")' in EXAMPLE.read_text()


class FakeBus(BusConnection):
    """Answers every question with `answer`, or raises it; None is a person who takes their time."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer
        self.calls: list[tuple[object, ...]] = []
        self.options: list[dict[str, Any]] = []
        self.withdrawn: list[object] = []

    async def call(self, *values: object, **options: Any) -> tuple[object, ...]:
        self.calls.append(values)
        self.options.append(options)
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return (self.answer,)

    def begin_call(self, *values: object) -> None:
        assert values[3] == "CancelCheckAuthorization"
        self.withdrawn.append(values[5])


async def ask(bus: FakeBus, *, may_interact: bool = False, model: str = "tiny") -> None:
    await PolkitAuthority(bus).ensure_may(
        USER, Action.LOAD_MODEL, {"model": model}, may_interact=may_interact
    )


async def test_the_subject_is_the_bus_name_and_nothing_else() -> None:
    bus = FakeBus([True, False, {}])
    await ask(bus)
    subject, action, told, flags, question = bus.calls[0][5:]
    kind, details = cast("tuple[str, dict[str, Variant]]", subject)
    assert kind == "system-bus-name"
    assert {key: value.value for key, value in details.items()} == {"name": ":1.7"}
    assert (action, told, flags) == ("org.unifiedllm1.load-model", {"model": "tiny"}, 0)
    await ask(bus)
    assert bus.calls[1][9] != question


async def test_a_person_is_asked_only_if_the_caller_allows_it() -> None:
    bus = FakeBus([True, False, {}])
    await ask(bus)
    await ask(bus, may_interact=True)
    assert [call[8] for call in bus.calls] == [0, 1]
    assert bus.options[1]["timeout"] == INTERACTION_SECONDS > bus.options[0]["timeout"]


@pytest.mark.parametrize(
    ("answer", "may_interact", "error"),
    [
        ([False, False, {}], False, NotPermitted),
        ([False, False, {}], True, NotPermitted),
        ([False, True, {}], False, AuthenticationRequired),
        ([False, True, {}], True, NotPermitted),
        ([False, True, {"polkit.dismissed": "true"}], True, AuthenticationDismissed),
        (BusFault("org.freedesktop.PolicyKit1.Error.NotAuthorized", "No."), False, NotPermitted),
        (BusFault("org.freedesktop.DBus.Error.ServiceUnknown", "No."), False, NotPermitted),
        (BusFault(NO_REPLY, "No."), True, NotPermitted),
    ],
)
async def test_anything_but_a_clear_yes_is_a_no(
    answer: object, may_interact: bool, error: type[Exception]
) -> None:
    bus = FakeBus(answer)
    with pytest.raises(error):
        await ask(bus, may_interact=may_interact)


async def test_a_question_without_an_answer_is_withdrawn() -> None:
    bus = FakeBus(BusFault(NO_REPLY, "No."))
    with pytest.raises(NotPermitted):
        await ask(bus)
    assert bus.withdrawn == [bus.calls[0][9]]


async def test_polkits_absence_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    bus = FakeBus(BusFault("org.freedesktop.DBus.Error.ServiceUnknown", "No."))
    authority = PolkitAuthority(bus)
    for _ in range(3):
        with pytest.raises(NotPermitted):
            await authority.ensure_may(USER, Action.GENERATE, {}, may_interact=False)
    assert len(caplog.records) == 1


async def test_details_are_short() -> None:
    bus = FakeBus([True, False, {}])
    await ask(bus, model="x" * 100_000)
    told = bus.calls[0][7]
    assert told == {"model": "x" * MAX_DETAIL_CHARACTERS}


async def test_one_user_can_not_leave_many_questions_open() -> None:
    bus = FakeBus(None)
    authority = PolkitAuthority(bus)
    other = Caller(1001, frozenset(), None, Door.DBUS, ":1.8")

    async def wait_for_a_person(caller: Caller) -> None:
        await authority.ensure_may(caller, Action.GENERATE, {}, may_interact=True)

    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(wait_for_a_person(USER)) for _ in range(MAX_PENDING_PER_USER)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimited, match="4 questions"):
            await wait_for_a_person(USER)
        waiting.append(group.create_task(wait_for_a_person(other)))
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
    assert len(bus.withdrawn) == len(waiting) == len(bus.calls)
    bus.answer = [True, False, {}]
    await wait_for_a_person(USER)
