"""Who may call what over the bus: one table, in which every method stands."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import pytest

from tests.unit.surfaces.dbus.house import (
    ADMIN,
    OTHER_USER,
    ROOT,
    STRANGER,
    TINY,
    USER,
    House,
    open_house,
)
from unified_llm.bus.objects import CallContext, Handler
from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import NotPermitted
from unified_llm.operations.jobs import Details, Job, JobType
from unified_llm.surfaces.dbus import contract
from unified_llm.surfaces.dbus.generation import Generations
from unified_llm.surfaces.dbus.verbs import Verbs

CALLERS = {
    "root": ROOT,
    "admin": ADMIN,
    "user": USER,
    "other user": OTHER_USER,
    "stranger": STRANGER,
}
EVERYBODY = frozenset(CALLERS)
MANAGERS = frozenset({"root", "admin"})
USERS = frozenset({"root", "user", "other user"})


@dataclass(frozen=True)
class Row:
    """A method, arguments with which it works, and who may call it. The job is of `user`."""

    method: str
    arguments: tuple[object, ...]
    allowed: frozenset[str]


ROWS = [
    Row("Manager.ListModels", ({},), EVERYBODY),
    Row("Manager.GetModel", ("tiny",), EVERYBODY),
    Row("Manager.LoadModel", ("tiny", {}), MANAGERS),
    Row("Manager.UnloadModel", ("tiny", {}), MANAGERS),
    Row("Manager.Generate", ("tiny", [["user", "Why?"]], {}), USERS),
    Row("Manager.GenerateText", ("tiny", "Why?", {}), USERS),
    Row("Model.Load", ({},), MANAGERS),
    Row("Model.Unload", ({},), MANAGERS),
    Row("Job.Cancel", (), MANAGERS | {"user"}),
    Row("Job.Wait", (), EVERYBODY),
]


async def succeed(job: Job) -> Details:
    return {}


def handlers_of(house: House) -> dict[str, Handler]:
    generations = Generations(house.inference, house.jobs)
    house.jobs.on_change = generations.on_job_changed
    verbs = Verbs(house.models, house.jobs, generations)
    job = house.jobs.begin(JobType.LOAD, TINY, USER, succeed)
    tables = {
        "Manager": verbs.of_manager(),
        "Model": verbs.of_model(TINY),
        "Job": verbs.of_job(job),
    }
    return {
        f"{interface}.{name}": handler
        for interface, table in tables.items()
        for name, handler in table.items()
    }


def test_every_method_is_in_the_table() -> None:
    methods = {
        f"{interface.name.rpartition('.')[2]}.{name}"
        for interface in (contract.MANAGER, contract.MODEL, contract.JOB)
        for name in interface.methods
    }
    assert {row.method for row in ROWS} == methods
    assert len(ROWS) == len(methods)


async def call(handler: Callable[..., Awaitable[object]], who: Caller, row: Row) -> None:
    interface, _, member = row.method.partition(".")
    context = CallContext(who, "/", f"org.unifiedllm1.{interface}", member, may_interact=False)
    answer = await handler(context, *row.arguments)
    if row.method == "Manager.Generate":
        _, _, reading = cast("tuple[int, str, int]", answer)
        os.close(reading)


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
