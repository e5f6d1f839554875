"""What the audit log says, and that nobody can make it say something else."""

import io
import json
import threading
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.errors import AuditUnavailable
from unified_llm.domain.models import ModelId
from unified_llm.domain.routing import Attempt
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.guard import audit as module
from unified_llm.guard.audit import Audit, AuditRecord, Outcome, StderrDevice
from unified_llm.guard.permissions import Action

CALLER = Caller(uid=1000, gids=frozenset({1000}), pid=77, door=Door.DBUS, connection=":1.7")


def record(target: str = "tiny", **changes: object) -> AuditRecord:
    values: dict[str, object] = {
        "caller": CALLER,
        "action": Action.GENERATE,
        "object": target,
        "request": "00ff",
        "outcome": Outcome.DONE,
        "duration": Seconds(1.5),
        "attempts": (
            Attempt(ModelId("far/big"), "far", "provider-down"),
            Attempt(ModelId("tiny"), "local"),
        ),
        "prompt_tokens": Tokens(3),
        "completion_tokens": Tokens(4),
    }
    return AuditRecord(**(values | changes))  # type: ignore[arg-type]


class ListDevice:
    def __init__(self) -> None:
        self.written: list[dict[str, str]] = []

    def write(self, fields: Mapping[str, str]) -> None:
        self.written.append(dict(fields))


class BrokenDevice:
    def __init__(self) -> None:
        self.is_broken = True
        self.tried = threading.Semaphore(0)

    def write(self, fields: Mapping[str, str]) -> None:
        try:
            if self.is_broken:
                raise OSError(28, "No space left on device")
        finally:
            self.tried.release()


class StalledDevice(ListDevice):
    def __init__(self) -> None:
        super().__init__()
        self.tried = threading.Semaphore(0)
        self.has_recovered = threading.Event()

    def write(self, fields: Mapping[str, str]) -> None:
        self.tried.release()
        assert self.has_recovered.wait(timeout=60)
        super().write(fields)


def test_a_record_says_who_what_how_and_how_much() -> None:
    fields = record().fields()
    assert {name: fields[name] for name in fields if name.startswith("UNIFIED_LLM_")} == {
        "UNIFIED_LLM_ACTION": "generate",
        "UNIFIED_LLM_OBJECT": "tiny",
        "UNIFIED_LLM_BACKEND": "local",
        "UNIFIED_LLM_TRIED": "far/big=provider-down tiny",
        "UNIFIED_LLM_RESULT": "done",
        "UNIFIED_LLM_UID": "1000",
        "UNIFIED_LLM_PID": "77",
        "UNIFIED_LLM_PRINCIPAL": "uid:1000",
        "UNIFIED_LLM_DOOR": "dbus",
        "UNIFIED_LLM_CONNECTION": ":1.7",
        "UNIFIED_LLM_REQUEST": "00ff",
        "UNIFIED_LLM_DURATION_USEC": "1500000",
        "UNIFIED_LLM_PROMPT_TOKENS": "3",
        "UNIFIED_LLM_COMPLETION_TOKENS": "4",
    }
    assert fields["MESSAGE"] == 'uid:1000 by dbus: generate "tiny": done'


def test_what_is_unknown_is_absent() -> None:
    assert "UNIFIED_LLM_PROMPT_TOKENS" not in record(prompt_tokens=None).fields()


@given(st.text(st.characters(exclude_categories=())))
def test_no_object_can_forge_a_field_or_a_line(target: str) -> None:
    honest, forged = record().fields(), record(target).fields()
    assert forged.keys() == honest.keys()
    assert "\n" not in forged["MESSAGE"]


@given(st.text(st.characters(exclude_categories=())))
def test_a_line_on_stderr_is_one_line_of_json_that_says_the_same(target: str) -> None:
    fields = record(target).fields()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", written := io.StringIO())
        StderrDevice().write(fields)
    prefix, _, line = written.getvalue().partition(" ")
    assert prefix == "audit"
    assert line.count("\n") == 1
    assert json.loads(line) == fields


def test_leaving_writes_everything_in_order() -> None:
    device = ListDevice()
    with Audit([device]) as audit:
        for number in range(100):
            audit.record(record(f"model-{number}"))
    objects = [fields["UNIFIED_LLM_OBJECT"] for fields in device.written]
    assert objects == [f"model-{number}" for number in range(100)]


def test_what_can_not_be_recorded_is_refused_until_it_can() -> None:
    device = BrokenDevice()
    with Audit([device]) as audit:
        audit.ensure_available()
        audit.record(record())
        assert device.tried.acquire(timeout=5)
        audit.settle()
        with pytest.raises(AuditUnavailable):
            audit.ensure_available()
        device.is_broken = False
        audit.record(record())
        audit.settle()
        audit.ensure_available()


def test_a_flood_of_refusals_fills_no_memory_and_its_loss_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 5)
    device = StalledDevice()
    with Audit([device]) as audit:
        audit.record(record("first"))
        assert device.tried.acquire(timeout=5)
        for number in range(100):
            audit.record(record(f"refused-{number}"))
        device.has_recovered.set()
        audit.settle()
        audit.record(record("last"))
    objects = [fields["UNIFIED_LLM_OBJECT"] for fields in device.written]
    assert objects == ["first", *(f"refused-{number}" for number in range(10)), "last"]
    assert "90 audit records" in caplog.text
