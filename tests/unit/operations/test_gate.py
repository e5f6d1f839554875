"""Every use is admitted and recorded in one place."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

import pytest

from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.chat import Usage
from unified_llm.domain.errors import Cancelled, NotPermitted, UnknownModel, WorkerDied
from unified_llm.domain.units import Instant, Tokens
from unified_llm.guard.audit import Audit
from unified_llm.guard.permissions import Action, Permissions
from unified_llm.operations.gate import Gate

ROOT = Caller(uid=0, gids=frozenset({0}), pid=1, door=Door.HTTP, connection="http 1")
STRANGER = Caller(uid=1002, gids=frozenset({1002}), pid=2, door=Door.DBUS, connection=":1.2")


class TickingClock:
    """Each look is a second later."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> Instant:
        self._now += 1
        return Instant(self._now)


class ListDevice:
    def __init__(self) -> None:
        self.written: list[dict[str, str]] = []

    def write(self, fields: Mapping[str, str]) -> None:
        self.written.append(dict(fields))


@contextmanager
def open_gate() -> Iterator[tuple[Gate, list[dict[str, str]]]]:
    device = ListDevice()
    permissions = Permissions(daemon_uid=990, user_gid=None, admin_gid=None)
    with Audit([device]) as audit:
        yield Gate(permissions, audit, TickingClock()), device.written


def result_of(error: BaseException | None, action: Action = Action.GENERATE) -> dict[str, str]:
    with open_gate() as (gate, written), suppress(BaseException), ExitStack() as uses:
        entry = uses.enter_context(gate.open_entry(ROOT, action, "tiny", request="r1"))
        entry.usage = Usage(Tokens(3), Tokens(4))
        if error is not None:
            raise error
    (only,) = written
    return only


@pytest.mark.parametrize(
    ("error", "result", "code"),
    [
        (None, "done", None),
        (UnknownModel("no"), "refused", "unknown-model"),
        (WorkerDied("gone"), "failed", "worker-died"),
        (Cancelled("The reader has left."), "cancelled", "cancelled"),
        (asyncio.CancelledError(), "cancelled", None),
        (GeneratorExit(), "cancelled", None),
        (ZeroDivisionError(), "failed", "internal"),
    ],
)
def test_however_a_use_ends_there_is_one_record(
    error: BaseException | None, result: str, code: str | None
) -> None:
    fields = result_of(error)
    assert fields["UNIFIED_LLM_RESULT"] == result
    assert fields.get("UNIFIED_LLM_CODE") == code
    assert fields["UNIFIED_LLM_REQUEST"] == "r1"
    assert fields["UNIFIED_LLM_DURATION_USEC"] == "1000000"
    assert fields["UNIFIED_LLM_COMPLETION_TOKENS"] == "4"


def test_a_stranger_is_refused_and_recorded() -> None:
    with (
        open_gate() as (gate, written),
        pytest.raises(NotPermitted),
        gate.open_entry(STRANGER, Action.LOAD_MODEL, "tiny"),
    ):
        pytest.fail("the body must not run")
    assert [fields["UNIFIED_LLM_CODE"] for fields in written] == ["not-permitted"]
    assert written[0]["UNIFIED_LLM_UID"] == "1002"


def test_reads_leave_no_record_unless_refused() -> None:
    with open_gate() as (gate, written):
        with gate.open_entry(STRANGER, Action.READ, "models"):
            pass
        with pytest.raises(UnknownModel), gate.open_entry(STRANGER, Action.READ, "nothing"):
            raise UnknownModel("no")
    assert [fields["UNIFIED_LLM_OBJECT"] for fields in written] == ["nothing"]


def test_what_is_recorded_elsewhere_is_recorded_once() -> None:
    with (
        open_gate() as (gate, written),
        gate.open_entry(ROOT, Action.LOAD_MODEL, "tiny", only_refusals=True),
    ):
        pass
    assert written == []
