"""What an authority allows is what is done, and nothing else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.fakes.authority import FakeAuthority
from tests.fakes.clock import FakeClock
from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.errors import NotPermitted
from unified_llm.guard.audit import Audit
from unified_llm.guard.permissions import Action, Permissions
from unified_llm.operations.admission import Admission
from unified_llm.operations.gate import Gate

USERS = 991
USER = Caller(1000, frozenset({1000, USERS}), 2, Door.DBUS, ":1.2")
OVER_HTTP = Caller(1000, frozenset({1000, USERS}), 2, Door.HTTP, "http:1")
ROOT = Caller(0, frozenset({0}), 1, Door.DBUS, ":1.1")


class ListDevice:
    def __init__(self) -> None:
        self.written: list[dict[str, str]] = []

    def write(self, fields: Mapping[str, str]) -> None:
        self.written.append(dict(fields))


@contextmanager
def open_gate() -> Iterator[tuple[Gate, list[dict[str, str]]]]:
    device = ListDevice()
    permissions = Permissions(990, USERS, None, frozenset({Door.DBUS}))
    with Audit([device]) as audit:
        yield Gate(permissions, audit, FakeClock()), device.written


async def test_leave_for_one_model_is_no_leave_for_another() -> None:
    with open_gate() as (gate, written):
        admission = Admission(gate, FakeAuthority({Action.LOAD_MODEL}))
        granted = await admission.grant(
            USER, Action.LOAD_MODEL, "tiny", {"model": "tiny"}, may_interact=False
        )
        with gate.open_entry(granted, Action.LOAD_MODEL, "tiny"):
            pass
        for action, target in (
            (Action.LOAD_MODEL, "big"),
            (Action.UNLOAD_MODEL, "tiny"),
            (Action.GENERATE, "tiny"),
        ):
            with (
                pytest.raises(NotPermitted, match="may not"),
                gate.open_entry(granted, action, target),
            ):
                pass
    assert [record["UNIFIED_LLM_RESULT"] for record in written] == ["done", *["refused"] * 3]


async def test_leave_for_anything_is_leave_for_each() -> None:
    with open_gate() as (gate, _):
        admission = Admission(gate, FakeAuthority({Action.GENERATE}))
        granted = await admission.grant(USER, Action.GENERATE, None, {}, may_interact=True)
        with gate.open_entry(granted, Action.GENERATE, "tiny"):
            pass
        with gate.open_entry(granted, Action.GENERATE, "big"):
            pass


async def test_a_refusal_is_recorded() -> None:
    with open_gate() as (gate, written):
        admission = Admission(gate, FakeAuthority())
        with pytest.raises(NotPermitted, match="says no"):
            await admission.grant(USER, Action.LOAD_MODEL, "tiny", {}, may_interact=False)
    (record,) = written
    assert (record["UNIFIED_LLM_ACTION"], record["UNIFIED_LLM_OBJECT"]) == ("load-model", "tiny")
    assert record["UNIFIED_LLM_CODE"] == "not-permitted"


async def test_a_surface_that_forgets_to_ask_refuses() -> None:
    with (
        open_gate() as (gate, _),
        pytest.raises(NotPermitted, match="authority of this door"),
        gate.open_entry(USER, Action.GENERATE, "tiny"),
    ):
        pass


async def test_other_doors_keep_their_groups_and_root_is_never_asked_about() -> None:
    authority = FakeAuthority()
    with open_gate() as (gate, _):
        admission = Admission(gate, authority)
        for caller in (ROOT, OVER_HTTP):
            same = await admission.grant(caller, Action.GENERATE, "tiny", {}, may_interact=False)
            assert same is caller
            with gate.open_entry(caller, Action.GENERATE, "tiny"):
                pass
    assert authority.asked == []


async def test_without_an_authority_the_gate_decides_alone() -> None:
    with open_gate() as (gate, _):
        same = await Admission(gate, None).grant(
            USER, Action.LOAD_MODEL, "tiny", {}, may_interact=False
        )
        assert same is USER
