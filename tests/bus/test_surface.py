"""The whole interface on a real bus, with the clients that people have."""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.bus.front_door import SOCKET, ask, open_front_door
from tests.fakes.backend import FakeBackend
from tests.fakes.house import BIG, ROOT, TINY, USER_GID
from tests.private_bus import PrivateBus, effective_user
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.faults import UNKNOWN_OBJECT, BusFault
from unified_llm.bus.interface import Interface
from unified_llm.bus.names import (
    BUS_NAME,
    JOB_INTERFACE,
    MANAGER_INTERFACE,
    MODEL_INTERFACE,
    OBJECT_MANAGER_INTERFACE,
    PROPERTIES_INTERFACE,
    ROOT_PATH,
    lease_path,
    model_path,
)
from unified_llm.bus.values import Variant, unwrap
from unified_llm.domain.chat import TextDelta
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.operations.jobs import JobResult
from unified_llm.surfaces.dbus import contract, reference

pytestmark = [pytest.mark.system, pytest.mark.slow]

_RELEASE_LAST = "Release".__eq__
HELLO: list[list[str]] = [["user", "hello"]]
GDBUS_CALL = ("gdbus", "call", "--system", "-d", BUS_NAME)
NOTHING: dict[str, object] = {}


def read_lines(reading: int) -> list[dict[str, Any]]:
    with os.fdopen(reading, encoding="ascii") as stream:
        return [json.loads(line) for line in stream]


async def until_open(backend: FakeBackend, count: int = 1) -> None:
    async with asyncio.timeout(30):
        while backend.open != count:
            await asyncio.sleep(0.005)


async def begin_generation(client: BusConnection) -> tuple[str, int]:
    """Object path of the job, and the stream."""
    answer = await ask(client, "Generate", "sa(ss)a{sv}", "tiny", HELLO, NOTHING)
    _, path, reading = cast("tuple[int, str, int]", answer)
    return path, reading


async def connect_as(stack: AsyncExitStack, bus: PrivateBus, user: str) -> BusConnection:
    with effective_user(user):
        return await stack.enter_async_context(open_connection(bus.address))


@pytest.mark.parametrize(
    "interface", [contract.MANAGER, contract.MODEL], ids=lambda found: found.name
)
async def test_busctl_and_gdbus_see_what_the_files_promise(
    interface: Interface, shared_bus: PrivateBus
) -> None:
    path = ROOT_PATH if interface is contract.MANAGER else model_path(TINY)
    async with open_front_door(shared_bus) as front:
        plain = await front.run("busctl", "introspect", BUS_NAME, path, interface.name)
        pretty = await front.run("gdbus", "introspect", "--system", "-d", BUS_NAME, "-o", path)
    rows = {row[0]: row[1:] for row in map(str.split, plain.stdout.splitlines())}
    for method in interface.methods.values():
        wanted = ["method", method.in_signature or "-", method.out_signature or "-"]
        assert rows[f".{method.name}"][:3] == wanted
        assert f"{method.name}(in  {method.inputs[0].signature}" in pretty.stdout
    for signal in interface.signals.values():
        assert rows[f".{signal.name}"][:2] == ["signal", signal.signature]
    for found in interface.properties.values():
        assert rows[f".{found.name}"][:2] == ["property", found.signature]
        assert f"readonly {found.signature} {found.name} = " in pretty.stdout
    assert rows[".State"][-1] == "emits-change"
    assert rows[".Version" if interface is contract.MANAGER else ".Id"][-1] == "const"


@pytest.mark.parametrize("interface", contract.INTERFACES, ids=lambda found: found.name)
async def test_every_example_of_the_reference_works(
    interface: Interface, shared_bus: PrivateBus
) -> None:
    async with open_front_door(shared_bus) as front:
        front.house.set_models(TINY, BIG, source="scan")
        _, job = (await front.busctl("LoadModel", "sa{sv}", "tiny", "0")).rsplit(maxsplit=1)
        lease = front.house.leases.begin(ROOT, Bytes(1), "test", "test")
        await front.house.devices.look()
        examples = reference.examples_of(interface)
        # A lease that is released has no properties any more.
        for name in sorted({*interface.methods, *interface.properties}, key=_RELEASE_LAST):
            if name in interface.methods and "h" in interface.methods[name].in_signature:
                continue  # busctl can not hand over a descriptor, as the reference says
            done = await front.run(
                "sh", "-c", examples[name], job=job.strip('"'), lease=lease_path(lease.id)
            )
            assert (done.returncode, done.stderr) == (0, ""), examples[name]
            assert bool(done.stdout) == (name not in {"Cancel", "Release"}), examples[name]


async def test_models_are_listed_and_found(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus) as front:
        assert await front.busctl("ListModels", "a{sv}", "0") == (
            'a(sssto) 2 "org/big:q4" "available" "local" 0 '
            '"/org/unifiedllm1/model/org_2fbig_3aq4" '
            '"tiny" "available" "local" 0 "/org/unifiedllm1/model/tiny"'
        )
        found = await front.busctl("GetModel", "s", "org/big:q4", user="nobody")
        assert found == 'o "/org/unifiedllm1/model/org_2fbig_3aq4"'


async def test_a_load_is_waited_for_with_gdbus(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus, obedient=False) as front:
        job = (await front.busctl("LoadModel", "sa{sv}", "tiny", "0")).split('"')[1]
        wait = (*GDBUS_CALL, "-o", job, "-t", "60", "-m")
        async with asyncio.TaskGroup() as group:
            early = group.create_task(front.run(*wait, f"{JOB_INTERFACE}.Wait"))
            state = await front.run(
                "busctl", "get-property", BUS_NAME, model_path(TINY), MODEL_INTERFACE, "State"
            )
            front.house.workers.finish_load(TINY)
        late = await front.run(*wait, f"{JOB_INTERFACE}.Wait")
    assert state.stdout == 's "loading"\n'
    assert early.result().stdout == "('done', @a{sv} {})\n"
    assert early.result().stdout == late.stdout


async def test_a_prompt_is_answered_in_one_reply(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus) as front:
        arguments = ("ssa{sv}", "tiny", "Why?", "2", "system", "s", "Be brief.", "seed", "t", "1")
        answer = await front.busctl("GenerateText", *arguments, user="nobody", group=USER_GID)
        (asked, who) = front.house.backend.asked[0]
    assert answer == (
        'sa{sv} "Blue light." 5 "prompt_tokens" u 5 "completion_tokens" u 2 "cached_tokens" u 1 '
        '"finish_reason" s "stop" "seconds" d 0.5'
    )
    assert [message.content for message in asked.messages] == ["Be brief.", "Why?"]
    assert (asked.sampling.seed, who.uid) == (1, 65534)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("GetModel", "s", "tine"), "There is no model 'tine'. Did you mean 'tiny'?"),
        (("GetModel", "s", "../x"), "'../x' is not a model id. An id has 1 to 128 characters of"),
        (
            ("UnloadModel", "sa{sv}", "tiny", "1", "force", "b", "true"),
            "There is no option 'force'. This method has no options: pass an empty dictionary.",
        ),
        (
            ("GenerateText", "ssa{sv}", "tiny", "hi", "1", "max_tokns", "u", "1"),
            "There is no option 'max_tokns'. Did you mean 'max_tokens'?",
        ),
        (
            ("GenerateText", "ssa{sv}", "tiny", "hi", "1", "temperature", "d", "9"),
            "temperature is 9.0; allowed is 0 to 2.",
        ),
        (
            ("Generate", "sa(ss)a{sv}", "tiny", "1", "robot", "hi", "0"),
            "Message 0 has the role 'robot'. Roles are system, user, assistant, tool;",
        ),
    ],
)
async def test_the_text_of_an_error_stands_alone(
    arguments: tuple[str, ...], text: str, shared_bus: PrivateBus
) -> None:
    async with open_front_door(shared_bus) as front:
        assert f"Call failed: {text}" in await front.busctl(*arguments)


@pytest.mark.parametrize(
    ("arguments", "group"),
    [
        (("LoadModel", "tiny", "{}"), USER_GID),
        (("UnloadModel", "tiny", "{}"), USER_GID),
        (("Generate", "tiny", "[('user', 'hi')]", "{}"), None),
        (("GenerateText", "tiny", "hi", "{}"), None),
    ],
)
async def test_others_are_denied_and_recorded(
    arguments: tuple[str, ...], group: int | None, shared_bus: PrivateBus
) -> None:
    async with open_front_door(shared_bus) as front:
        member = f"{MANAGER_INTERFACE}.{arguments[0]}"
        command = ("-o", ROOT_PATH, "-m", member, *arguments[1:])
        answer = await front.run(*GDBUS_CALL, *command, user="nobody", group=group)
        assert "org.freedesktop.DBus.Error.AccessDenied: uid 65534 may not" in answer.stderr
        assert "Allowed are: root, " in answer.stderr
        assert not front.house.workers.begun
        assert not front.house.backend.asked
    (record,) = front.house.trail.records
    assert (record["UNIFIED_LLM_UID"], record["UNIFIED_LLM_CODE"]) == ("65534", "not-permitted")
    assert (record["UNIFIED_LLM_DOOR"], record["UNIFIED_LLM_RESULT"]) == ("dbus", "refused")


async def test_somebody_elses_load_can_not_be_cancelled(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus, obedient=False) as front:
        job = (await front.busctl("LoadModel", "sa{sv}", "tiny", "0")).split('"')[1]
        command = (*GDBUS_CALL, "-o", job, "-m", f"{JOB_INTERFACE}.Cancel")
        denied = await front.run(*command, user="nobody")
        assert "AccessDenied: uid 65534 may not manage jobs." in denied.stderr
        assert (await front.run(*command)).returncode == 0
        ended = await front.run("busctl", "call", BUS_NAME, job, JOB_INTERFACE, "Wait")
        assert ended.stdout.startswith('sa{sv} "cancelled" 2 "error_name" s ')
        front.house.workers.finish_load(TINY)
    assert front.house.trail.records[0]["UNIFIED_LLM_ACTION"] == "manage-jobs"


async def test_an_answer_is_streamed_line_by_line(shared_bus: PrivateBus) -> None:
    gate = asyncio.Event()
    async with (
        open_front_door(shared_bus) as front,
        open_connection(shared_bus.address) as client,
    ):
        front.house.backend.script.insert(1, gate)
        path, reading = await begin_generation(client)
        first = await asyncio.to_thread(os.read, reading, 65536)
        gate.set()
        rest = await asyncio.to_thread(read_lines, reading)
        answer = await client.call(BUS_NAME, path, JOB_INTERFACE, "Wait", expects="sa{sv}")
    assert first == b'{"text": "Blue "}\n'
    assert rest[0] == {"text": "light."}
    assert rest[1]["done"] is True
    result, details = cast("tuple[str, dict[str, Variant]]", answer)
    assert (result, details["completion_tokens"]) == ("done", Variant("u", 2))


async def test_closing_the_stream_cancels_the_generation(shared_bus: PrivateBus) -> None:
    backend = FakeBackend([TextDelta("Bl"), asyncio.Event()])
    async with (
        open_front_door(shared_bus, backend=backend) as front,
        open_connection(shared_bus.address) as client,
    ):
        path, reading = await begin_generation(client)
        await until_open(backend)
        os.close(reading)
        (result, _) = await client.call(BUS_NAME, path, JOB_INTERFACE, "Wait", expects="sa{sv}")
        assert result == "cancelled"
        assert backend.open == 0
    assert front.house.trail.records[-1]["UNIFIED_LLM_RESULT"] == "cancelled"


async def test_a_caller_that_leaves_the_bus_takes_its_generations_along(
    shared_bus: PrivateBus,
) -> None:
    backend = FakeBackend([TextDelta("Bl"), asyncio.Event()])
    async with open_front_door(shared_bus, backend=backend), AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_connection(shared_bus.address))
        _, reading = await begin_generation(client)
        await until_open(backend)
        async with asyncio.TaskGroup() as group:

            async def ask_for_text() -> None:
                with pytest.raises(BusFault):
                    await ask(client, "GenerateText", "ssa{sv}", "tiny", "hi", NOTHING)

            group.create_task(ask_for_text())
            await until_open(backend, 2)
            await stack.aclose()
        await until_open(backend, 0)
        lines = await asyncio.to_thread(read_lines, reading)
    assert lines[-1]["error"]["code"] == "cancelled"


async def test_a_generation_is_seen_by_its_user_and_root_only(shared_bus: PrivateBus) -> None:
    backend = FakeBackend([asyncio.Event()])
    heard: list[str] = []
    async with (
        open_front_door(shared_bus, backend=backend) as front,
        AsyncExitStack() as stack,
    ):
        owner = await connect_as(stack, shared_bus, "root")
        other = await connect_as(stack, shared_bus, "nobody")
        await other.add_match(f"type='signal',sender='{BUS_NAME}'")
        sender = cast("str", (await other.call_bus("GetNameOwner", "s", BUS_NAME))[0])
        for interface, member in (
            (MANAGER_INTERFACE, "JobNew"),
            (OBJECT_MANAGER_INTERFACE, "InterfacesAdded"),
            (PROPERTIES_INTERFACE, "PropertiesChanged"),
        ):
            other.on_signal(sender, interface, member, lambda found: heard.append(found.path))
        path, reading = await begin_generation(owner)
        get = (BUS_NAME, path, PROPERTIES_INTERFACE, "Get", "ss", JOB_INTERFACE, "State")
        assert await owner.call(*get, expects="v") == (Variant("s", "running"),)
        for method in ("Cancel", "Wait"):
            with pytest.raises(BusFault) as refused:
                await other.call(BUS_NAME, path, JOB_INTERFACE, method)
            assert refused.value.name == UNKNOWN_OBJECT
        with pytest.raises(BusFault) as refused:
            await other.call(*get)
        assert refused.value.name == UNKNOWN_OBJECT
        for client in (owner, other):
            (managed,) = await client.call(
                BUS_NAME, ROOT_PATH, OBJECT_MANAGER_INTERFACE, "GetManagedObjects"
            )
            assert path not in cast("dict[str, object]", managed)
        os.close(reading)
        await owner.call(BUS_NAME, path, JOB_INTERFACE, "Wait", timeout=Seconds(60))
        await until_open(front.house.backend, 0)
        await other.call_bus("GetId")
    assert heard == []


async def test_the_manager_tells_of_the_daemon(shared_bus: PrivateBus) -> None:
    async with (
        open_front_door(shared_bus) as front,
        open_connection(shared_bus.address) as client,
    ):

        async def read() -> dict[str, object]:
            found = await client.call(
                BUS_NAME, ROOT_PATH, PROPERTIES_INTERFACE, "GetAll", "s", MANAGER_INTERFACE
            )
            return cast("dict[str, object]", unwrap(found[0]))

        assert await read() == {
            "Version": "1.2.3",
            "ApiFeatures": list(contract.API_FEATURES),
            "State": "running",
            "Degraded": [],
            "LoadedModels": [],
            "NJobs": 0,
            "HttpSocketPath": str(SOCKET),
            "OnBattery": False,
            "GameMode": False,
            "DelayInhibited": "",
            "VramPressure": 0,
        }
        front.house.complaints.append("The disk is full.")
        front.door.refresh_state()
        await ask(client, "LoadModel", "sa{sv}", BIG, NOTHING)
        front.house.status.draining_began()
        found = await read()
        assert (found["State"], found["LoadedModels"]) == ("degraded", [model_path(BIG)])
        assert found["Degraded"] == ["The disk is full."]
        front.door.refresh_state()
        assert (await read())["State"] == "draining"


async def test_a_model_tells_who_uses_it_now_and_when_somebody_did(
    shared_bus: PrivateBus,
) -> None:
    async with (
        open_front_door(shared_bus) as front,
        open_connection(shared_bus.address) as client,
    ):

        async def read(name: str) -> object:
            everything = await client.call(
                BUS_NAME, ROOT_PATH, OBJECT_MANAGER_INTERFACE, "GetManagedObjects"
            )
            objects = cast("dict[str, dict[str, dict[str, object]]]", unwrap(everything[0]))
            (one,) = await client.call(
                BUS_NAME, model_path(TINY), PROPERTIES_INTERFACE, "Get", "ss", MODEL_INTERFACE, name
            )
            assert unwrap(one) == objects[model_path(TINY)][MODEL_INTERFACE][name]
            return unwrap(one)

        assert (await read("Leases"), await read("LastUsed")) == (0, 0)
        async with front.house.scheduler.lease(TINY, "uid:7", timeout=Seconds(30)):
            assert (await read("Leases"), await read("LastUsed")) == (1, 0)
        assert (await read("Leases"), await read("LastUsed")) == (0, 1_700_000_000_000_000)


async def test_a_digest_is_announced_when_it_is_known(shared_bus: PrivateBus) -> None:
    async with (
        open_front_door(shared_bus) as front,
        open_connection(shared_bus.address) as client,
    ):
        told: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()
        await client.add_match(f"type='signal',sender='{BUS_NAME}'")
        sender = cast("str", (await client.call_bus("GetNameOwner", "s", BUS_NAME))[0])
        client.on_signal(
            sender,
            PROPERTIES_INTERFACE,
            "PropertiesChanged",
            lambda signal: told.put_nowait((signal.path, *signal.body)),
        )
        spec = replace(front.house.models.spec(TINY), digest="ab" * 32)
        front.house.models.replace_catalogue({TINY: spec, BIG: front.house.models.spec(BIG)})
        async with asyncio.timeout(20):
            path, interface, changed, gone = await told.get()
        assert (path, interface, gone) == (model_path(TINY), MODEL_INTERFACE, [])
        assert unwrap(changed) == {"Sha256": "ab" * 32}


async def test_a_closed_door_leaves_the_operations_working(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus) as front:
        await front.door.__aexit__(None, None, None)
        front.house.set_models(TINY)
        job = front.house.models.begin_load(ROOT, TINY)
        await job.finished.wait()
        assert "This program has no objects" in await front.busctl("ListModels", "a{sv}", "0")
    assert job.result is JobResult.DONE
