"""The real polkitd decides, and a stand-in does what the real one can not be made to do."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.bus.front_door import FrontDoor, ask, open_front_door
from tests.fakes.house import ROOT, USER_GID
from tests.private_bus import PrivateBus, effective_user, private_bus
from tests.private_polkit import BUS_POLICY, EXAMPLE, private_polkit
from unified_llm.bus.connection import open_connection
from unified_llm.bus.exporter import open_exporter
from unified_llm.bus.faults import BusFault
from unified_llm.bus.interface import parse_interface
from unified_llm.bus.names import BUS_NAME, ROOT_PATH
from unified_llm.bus.objects import CallContext, ExportedInterface, ExportedObject, Handler
from unified_llm.cli import management
from unified_llm.domain.errors import AuthenticationRequired, NotPermitted
from unified_llm.guard.polkit import POLKIT_INTERFACE, POLKIT_NAME, POLKIT_PATH

pytestmark = [pytest.mark.system, pytest.mark.slow]

# Whoever is in the group of `nobody` is a student.
RULES = EXAMPLE.read_text().replace('"students"', '"nogroup"')
GENERATE = ("GenerateText", "ssa{sv}", "tiny", "Why?", "0")
LOAD = ("LoadModel", "sa{sv}", "tiny", "0")
STARTED = "uo "  # what busctl prints of a job's id and path


@pytest.fixture(scope="module")
def ruled_bus() -> Iterator[PrivateBus]:
    """A bus on which the real polkitd decides, by our actions, our rules and the example's."""
    with private_bus(policies=[BUS_POLICY]) as bus, private_polkit(bus, rules=[RULES]):
        yield bus


@pytest.fixture(scope="module")
def bare_bus() -> Iterator[PrivateBus]:
    """A bus where nobody is polkit, so that a test may be."""
    with private_bus(policies=[BUS_POLICY]) as bus:
        yield bus


async def test_a_rule_that_looks_at_details_decides_by_the_model(ruled_bus: PrivateBus) -> None:
    async with open_front_door(ruled_bus, with_polkit=True) as front:
        assert (await front.busctl(*LOAD, user="nobody")).startswith(STARTED)
        assert "Blue light." in await front.busctl(*GENERATE, user="nobody")
        other = ("LoadModel", "sa{sv}", "org/big:q4", "0")
        assert "Access denied" in await front.busctl(*other, user="nobody")
        job = (await front.busctl("LoadModel", "sa{sv}", "org/big:q4", "0")).split('"')[1]
        cancel = ("busctl", "call", BUS_NAME, job, "org.unifiedllm1.Job", "Cancel")
        refused = await front.run(*cancel, user="nobody")
        assert "Access denied" in refused.stderr
    refusals = {
        (record["UNIFIED_LLM_ACTION"], record["UNIFIED_LLM_UID"])
        for record in front.house.trail.records
        if record["UNIFIED_LLM_RESULT"] == "refused"
    }
    assert refusals == {("load-model", "65534"), ("manage-jobs", "65534")}


async def test_without_a_rule_the_defaults_decide(ruled_bus: PrivateBus) -> None:
    """`games` has no session: a password would be needed, and nobody is there to be asked."""
    async with open_front_door(ruled_bus, with_polkit=True) as front:
        # Groups count only by rules on this door, and this gid has no name that a rule could use.
        refused = await front.busctl(*LOAD, user="games", group=USER_GID)
        assert "Access denied" in refused
        gdbus = ("gdbus", "call", "--system", "-d", BUS_NAME, "-o", ROOT_PATH, "-m")
        manager = f"{BUS_NAME}.Manager"
        silent = await front.run(*gdbus, f"{manager}.LoadModel", "tiny", "{}", user="games")
        assert "InteractiveAuthorizationRequired" in silent.stderr
        assert "only after authenticating. Allow interaction" in silent.stderr
        assert (await front.busctl("ListModels", "a{sv}", "0", user="games")).startswith("a(sssto)")


async def test_the_command_line_lets_polkit_ask_unless_told_not_to(
    ruled_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", ruled_bus.address)
    async with open_front_door(ruled_bus, with_polkit=True):
        load = management.Verb(management.LOAD, "s", ("tiny",))
        for may_interact, error in ((False, AuthenticationRequired), (True, NotPermitted)):
            with effective_user("games"), pytest.raises(error):
                await management._run_verb(load, print, print, may_interact)


async def test_a_daemon_that_is_not_root_needs_the_owner_annotation() -> None:
    """Without it polkit answers such a daemon about nobody, and that is a no, not a yes."""
    for owned, answer in ((True, STARTED), (False, "Access denied")):
        with (
            private_bus(owner="daemon", policies=[BUS_POLICY]) as bus,
            private_polkit(bus, owner="daemon", rules=[RULES], owned=owned),
        ):
            with effective_user("daemon"):
                opening = open_front_door(bus, with_polkit=True)
                front = await opening.__aenter__()
            try:
                assert answer in await front.busctl(*LOAD, user="nobody")
            finally:
                await opening.__aexit__(None, None, None)


async def test_without_polkit_only_root_may(bare_bus: PrivateBus) -> None:
    async with open_front_door(bare_bus, with_polkit=True) as front:
        assert "Access denied" in await front.busctl(*LOAD, user="nobody", group=USER_GID)
        assert (await front.busctl(*LOAD)).startswith(STARTED)


AUTHORITY = parse_interface(f"""<node><interface name="{POLKIT_INTERFACE}">
  <method name="CheckAuthorization">
    <arg name="subject" type="(sa{{sv}})" direction="in"/>
    <arg name="action" type="s" direction="in"/>
    <arg name="details" type="a{{ss}}" direction="in"/>
    <arg name="flags" type="u" direction="in"/>
    <arg name="question" type="s" direction="in"/>
    <arg name="result" type="(bba{{ss}})" direction="out"/>
  </method>
  <method name="CancelCheckAuthorization"><arg name="question" type="s" direction="in"/></method>
</interface></node>""")


class StandIn:
    """A polkit whose person takes as long as the test wants."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[str, dict[str, str], str]] = asyncio.Queue()
        self.withdrawn: asyncio.Queue[str] = asyncio.Queue()
        self.answer: asyncio.Future[tuple[object, ...]] = asyncio.Future()

    async def check(
        self,
        context: CallContext,
        subject: object,
        action: str,
        details: dict[str, str],
        flags: int,
        question: str,
    ) -> tuple[object, ...]:
        self.asked.put_nowait((action, details, question))
        return (await asyncio.shield(self.answer),)

    async def cancel(self, context: CallContext, question: str) -> None:
        self.withdrawn.put_nowait(question)


@asynccontextmanager
async def open_stand_in(bus: PrivateBus) -> AsyncIterator[StandIn]:
    stand_in = StandIn()
    methods: dict[str, Handler] = {
        "CheckAuthorization": stand_in.check,
        "CancelCheckAuthorization": stand_in.cancel,
    }
    async with AsyncExitStack() as stack:
        with effective_user("polkitd"):
            connection = await stack.enter_async_context(open_connection(bus.address))
        exporter = await stack.enter_async_context(open_exporter(connection))
        exporter.export(
            POLKIT_PATH, ExportedObject((ExportedInterface(AUTHORITY, methods=methods),))
        )
        await connection.request_name(POLKIT_NAME)
        yield stand_in


@asynccontextmanager
async def open_asked(bus: PrivateBus) -> AsyncIterator[tuple[FrontDoor, StandIn]]:
    async with open_stand_in(bus) as polkit, open_front_door(bus, with_polkit=True) as front:
        yield front, polkit


async def test_the_question_of_a_caller_that_leaves_is_withdrawn(bare_bus: PrivateBus) -> None:
    async with open_asked(bare_bus) as (front, polkit):
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            with effective_user("nobody"):
                client = await stack.enter_async_context(open_connection(bare_bus.address))
            asking = group.create_task(_refused(ask(client, "LoadModel", "sa{sv}", "tiny", {})))
            _, _, question = await polkit.asked.get()
            await stack.aclose()
            assert "Disconnected" in await asking
        async with asyncio.timeout(30):
            assert await polkit.withdrawn.get() == question
        polkit.answer.set_result((True, False, {}))
        assert front.house.jobs.visible_to(ROOT) == ()


async def test_what_was_authorised_is_what_is_done(bare_bus: PrivateBus) -> None:
    """While a person thinks, the catalogue changes: the answer is about the model named before."""
    async with open_asked(bare_bus) as (front, polkit), asyncio.TaskGroup() as group:
        loading = group.create_task(front.busctl(*LOAD, user="nobody"))
        action, details, _ = await polkit.asked.get()
        assert (action, details) == ("org.unifiedllm1.load-model", {"model": "tiny"})
        front.house.set_models()
        polkit.answer.set_result((True, False, {}))
        assert "There is no model" in await loading


async def test_others_are_served_while_a_person_thinks(bare_bus: PrivateBus) -> None:
    async with open_asked(bare_bus) as (front, polkit), asyncio.TaskGroup() as group:
        loading = group.create_task(front.busctl(*LOAD, user="nobody"))
        await polkit.asked.get()
        assert (await front.busctl("ListModels", "a{sv}", "0", user="games")).startswith("a(sssto)")
        polkit.answer.set_result((False, True, {"polkit.dismissed": "true"}))
        assert "was asked to authenticate, and nobody did." in await loading


async def _refused(call: object) -> str:
    try:
        await call  # type: ignore[misc]
    except BusFault as fault:
        return fault.name
    return ""
