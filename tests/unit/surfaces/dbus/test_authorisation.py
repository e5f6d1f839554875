"""Who may call what over the bus: one table, in which every method stands."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

import pytest

from tests.fakes.authority import FakeAuthority
from tests.fakes.house import (
    ADMIN,
    OTHER_USER,
    ROOT,
    STRANGER,
    TINY,
    USER,
    House,
    open_house,
    verbs_of,
)
from unified_llm.bus.interface import Interface
from unified_llm.bus.objects import CallContext
from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import NotPermitted
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes
from unified_llm.guard.permissions import Action
from unified_llm.operations.jobs import Details, Job, JobType
from unified_llm.surfaces.dbus import contract

CALLERS = {
    "root": ROOT,
    "admin": ADMIN,
    "user": USER,
    "other user": OTHER_USER,
    "stranger": STRANGER,
}
FILE = object()
EVERYBODY = frozenset(CALLERS)
MANAGERS = frozenset({"root", "admin"})
USERS = frozenset({"root", "user", "other user"})


@dataclass(frozen=True)
class Row:
    """A method, arguments with which it works, and who may call it. The job is of `user`.

    allowed: where groups decide. action: what an authority is asked where one decides; None if
    everybody may.
    """

    method: str
    arguments: tuple[object, ...]
    allowed: frozenset[str]
    action: Action | None


ROWS = [
    Row("Manager.ListModels", ({},), EVERYBODY, None),
    Row("Manager.ListJobs", ({},), EVERYBODY, None),
    Row("Manager.OpenHttpConnection", ({},), USERS, Action.GENERATE),
    Row("Manager.GetModel", ("tiny",), EVERYBODY, None),
    Row("Manager.LoadModel", ("tiny", {}), MANAGERS, Action.LOAD_MODEL),
    Row("Manager.UnloadModel", ("tiny", {}), MANAGERS, Action.UNLOAD_MODEL),
    Row("Manager.SwitchModel", ("dog", "tiny", {}), MANAGERS, Action.LOAD_MODEL),
    Row("Manager.ScanModels", ({},), MANAGERS, Action.SCAN_MODELS),
    Row("Manager.ImportModel", (FILE, {}), MANAGERS, Action.IMPORT_MODEL),
    Row("Manager.RemoveModel", ("tiny", {}), MANAGERS, Action.REMOVE_MODEL),
    Row("Manager.Generate", ("tiny", [["user", "Why?"]], {}), USERS, Action.GENERATE),
    Row("Manager.GenerateText", ("tiny", "Why?", {}), USERS, Action.GENERATE),
    Row("Model.Load", ({},), MANAGERS, Action.LOAD_MODEL),
    Row("Model.Unload", ({},), MANAGERS, Action.UNLOAD_MODEL),
    Row("Model.Remove", ({},), MANAGERS, Action.REMOVE_MODEL),
    Row("Job.Cancel", (), MANAGERS | {"user"}, Action.MANAGE_JOBS),
    Row("Job.Wait", (), EVERYBODY, None),
    Row("Manager.ReserveVram", (1, "game", "why", {}), MANAGERS, Action.RESERVE_VRAM),
    Row("Manager.Inhibit", ("load", "backup", "why", "block"), MANAGERS, Action.INHIBIT),
    Row("Manager.ListInhibitors", ({},), EVERYBODY, None),
    Row("Manager.ListRoutes", ({},), EVERYBODY, None),
    Row("Manager.ExplainRoute", ("tiny", {}), EVERYBODY, None),
    Row("Manager.CancelAll", ({},), MANAGERS, Action.MANAGE_JOBS),
    Row("Manager.VerifyModel", ("tiny", {}), MANAGERS, Action.SCAN_MODELS),
    Row("Model.Verify", ({},), MANAGERS, Action.SCAN_MODELS),
    Row("Manager.Flush", ({},), MANAGERS, Action.UNLOAD_MODEL),
    Row("Manager.Reload", ({},), MANAGERS, Action.RELOAD),
    Row("LogControl1.LogLevel", ("warning",), MANAGERS, Action.CONFIGURE),
    # A lease is a private object: for others than its owner and root there is none to call.
    Row("Lease.Wait", (), EVERYBODY, None),
    Row("Lease.Release", (), EVERYBODY, None),
]


def row(method: str) -> Row:
    (found,) = [each for each in ROWS if each.method == method]
    return found


async def succeed(job: Job) -> Details:
    return {}


def handlers_of(house: House) -> dict[str, Callable[..., Awaitable[object]]]:
    # Those of the settings are not removed, whoever asks.
    house.set_models(TINY, ModelId("dog"), source="scan")
    verbs = verbs_of(house)
    job = house.jobs.begin(JobType.LOAD, TINY, USER, succeed)
    lease = house.leases.begin(ROOT, Bytes(1), "test", "test")
    tables: dict[str, Mapping[str, Callable[..., Awaitable[object]]]] = {
        "Manager": verbs.of_manager(),
        "Model": verbs.of_model(TINY),
        "Job": verbs.of_job(job),
        "Lease": verbs.of_lease(lease),
        "LogControl1": verbs.administration.log_setters(lambda: None),
    }
    return {
        f"{interface}.{name}": handler
        for interface, table in tables.items()
        for name, handler in table.items()
    }


def test_every_method_is_in_the_table_and_every_property_that_can_be_set() -> None:
    methods = {
        f"{interface.name.rpartition('.')[2]}.{name}"
        for interface in contract.INTERFACES
        for name in (*interface.methods, *writable(interface))
    }
    assert {row.method for row in ROWS} == methods
    assert len(ROWS) == len(methods)


def writable(interface: Interface) -> list[str]:
    return [found.name for found in interface.properties.values() if found.is_writable]


async def call(handler: Callable[..., Awaitable[object]], who: Caller, row: Row) -> None:
    interface, _, member = row.method.partition(".")
    (described,) = [each for each in contract.INTERFACES if each.name.endswith(f".{interface}")]
    method = described.methods.get(member)
    context = CallContext(who, "/", f"org.unifiedllm1.{interface}", member, may_interact=False)
    # The handler closes the descriptor it is given.
    arguments = [os.open("/dev/null", os.O_RDONLY) if a is FILE else a for a in row.arguments]
    answer = await handler(context, *arguments)
    outputs = method.outputs if method else ()
    for argument, value in zip(outputs, cast("tuple[object, ...]", answer or ()), strict=True):
        if argument.signature == "h":
            os.close(cast("int", value))


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.method)
async def test_the_table_holds(row: Row, who: str) -> None:
    async with open_house() as house:
        handler = handlers_of(house)[row.method]
        if who in row.allowed:
            await call(handler, CALLERS[who], row)
        else:
            with pytest.raises(NotPermitted, match="Allowed are"):
                await call(handler, CALLERS[who], row)
    refusals = [
        record
        for record in house.trail.records
        if record.get("UNIFIED_LLM_CODE") == "not-permitted"
    ]
    if who in row.allowed:
        assert refusals == []
    else:
        (refusal,) = refusals
        assert refusal["UNIFIED_LLM_UID"] == str(CALLERS[who].uid)
        assert refusal["UNIFIED_LLM_DOOR"] == "dbus"


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.method)
async def test_where_an_authority_decides_groups_count_for_nothing(row: Row, who: str) -> None:
    authority = FakeAuthority()
    async with open_house(authority=authority) as house:
        handler = handlers_of(house)[row.method]
        is_own_job = row.method == "Job.Cancel" and who == "user"
        if who == "root" or row.action is None or is_own_job:
            await call(handler, CALLERS[who], row)
            assert authority.asked == []
            return
        with pytest.raises(NotPermitted):
            await call(handler, CALLERS[who], row)
        authority.allowed.add(row.action)
        await call(handler, CALLERS[who], row)
    assert [asked.action for asked in authority.asked] == [row.action, row.action]
    (refusal,) = [record for record in house.trail.records if "UNIFIED_LLM_CODE" in record]
    assert refusal["UNIFIED_LLM_ACTION"] == row.action.label


async def test_an_authority_is_told_on_what_and_whether_it_may_ask_the_person() -> None:
    authority = FakeAuthority(set(Action))
    async with open_house(authority=authority) as house:
        handlers = handlers_of(house)
        await call(handlers["Manager.LoadModel"], STRANGER, row("Manager.LoadModel"))
        await call(handlers["Job.Cancel"], STRANGER, row("Job.Cancel"))
    load, cancel = authority.asked
    assert load.details == {"model": "tiny"}
    assert cancel.details == {"type": "load", "model": "tiny", "uid": "1000"}
    assert not load.may_interact
