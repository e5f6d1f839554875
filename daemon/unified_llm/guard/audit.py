"""The audit log, first form: one journal record for every use of the daemon and every refusal.

A record says who (by kernel identity), through which door, what, on which object, how it ended and
what it took. It never holds a prompt or an answer: there is no field for one. Field names are
constants, and values travel length-framed, so no value can forge a field (CVE-2024-52337 of tuned).

Whoever records does not wait: one thread writes, because a journald that does not read would
otherwise hold up the event loop. When that thread falls too far behind, what would have to be
recorded is refused instead.
"""

import json
import logging
import queue
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Protocol, Self

from systemd import journal

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import AuditUnavailable
from unified_llm.domain.events import Move
from unified_llm.domain.routing import Attempt
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.guard.permissions import Action

_log = logging.getLogger(__name__)

# Drawn once for this purpose; `journalctl MESSAGE_ID=…` finds every audit record.
MESSAGE_ID: Final = "0bd7174ee1a840c4bc73099504e0bd2b"
MAX_WAITING: Final = 10_000
_MAX_VALUE_CHARACTERS: Final = 1024
# What is left by then is lost: a journald that never reads shall not hold up the stop for ever.
_LAST_WRITES_SECONDS: Final = 10.0
_MAX_PENDING_HINT: Final = "See whether systemd-journald is running and its disk has room."


class Outcome(StrEnum):
    """How a recorded use ended."""

    DONE = "done"
    REFUSED = "refused"  # the caller could have known
    FAILED = "failed"  # we or the world failed
    CANCELLED = "cancelled"  # the caller left or cancelled


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One use. None is unknown or does not apply.

    request: a random id that also stands in the answer and in other log lines.
    reason: why, for what the daemon does of its own accord.
    code: of the error, if it ended with one. attempts: who was asked, in order.
    """

    caller: Caller
    action: Action | Move
    object: str
    request: str
    outcome: Outcome
    duration: Seconds
    code: str | None = None
    attempts: tuple[Attempt, ...] = ()
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    reason: str | None = None

    def fields(self) -> dict[str, str]:
        """The journal's fields, all but the message with our prefix, in a fixed order."""
        caller = self.caller
        values: dict[str, object | None] = {
            "ACTION": self.action.label,
            "OBJECT": self.object[:_MAX_VALUE_CHARACTERS],
            "BACKEND": self.attempts[-1].backend if self.attempts else None,
            "TRIED": _render_tried(self.attempts),
            "RESULT": self.outcome.value,
            "CODE": self.code,
            "REASON": self.reason,
            "UID": caller.uid,
            "PID": caller.pid,
            "PRINCIPAL": caller.principal,
            "DOOR": caller.door.value,
            "CONNECTION": caller.connection,
            "REQUEST": self.request,
            "DURATION_USEC": round(self.duration * 1_000_000),
            "PROMPT_TOKENS": self.prompt_tokens,
            "COMPLETION_TOKENS": self.completion_tokens,
        }
        own = {
            f"UNIFIED_LLM_{name}": str(value) for name, value in values.items() if value is not None
        }
        return {
            "MESSAGE": self._message(),
            "MESSAGE_ID": MESSAGE_ID,
            "PRIORITY": "5" if self.outcome is Outcome.REFUSED else "6",
            "SYSLOG_IDENTIFIER": "unified-llmd",
            **own,
        }

    def _message(self) -> str:
        ending = f"{self.outcome.value} ({self.code})" if self.code else self.outcome.value
        who = f"{self.caller.principal} by {self.caller.door.value}"
        shown = json.dumps(self.object[:_MAX_VALUE_CHARACTERS])
        return f"{who}: {self.action.label} {shown}: {ending}"


def _render_tried(attempts: tuple[Attempt, ...]) -> str | None:
    """`far/a=provider-down tiny`: each model asked, and the error it ended with, if any."""
    told = (f"{each.model}={each.code}" if each.code else each.model for each in attempts)
    return " ".join(told) or None


class AuditDevice(Protocol):
    """Where records go. Called from the writer's thread only; may block."""

    def write(self, fields: Mapping[str, str]) -> None:
        """Take one record. Raises OSError."""


class JournalDevice:
    """journald, by its native protocol through systemd-python.

    sd_journal_sendv(3) sends a value that holds a newline in the protocol's length-framed form.
    """

    def write(self, fields: Mapping[str, str]) -> None:
        """Send one record. What is not Unicode is sent escaped, since a caller may have sent it."""
        journal.sendv(
            *(f"{name}={value}".encode(errors="backslashreplace") for name, value in fields.items())
        )


class StderrDevice:
    """One line of JSON on standard error, for machines and terminals without journald."""

    def write(self, fields: Mapping[str, str]) -> None:
        """Print one record; JSON keeps control characters and newlines escaped."""
        sys.stderr.write(f"audit {json.dumps(fields)}\n")
        sys.stderr.flush()


class Audit(AbstractContextManager["Audit"]):
    """Records uses in order. Leaving it writes what is still waiting."""

    def __init__(self, devices: Iterable[AuditDevice]) -> None:
        self._devices = tuple(devices)
        self._waiting: queue.Queue[AuditRecord | None] = queue.Queue()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._is_failing = False
        self._lost = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join(timeout=_LAST_WRITES_SECONDS)

    def ensure_available(self) -> None:
        """Raise AuditUnavailable if a use that starts now might not be recorded."""
        waiting = self._waiting.qsize()
        if self._is_failing or waiting >= MAX_WAITING:
            raise AuditUnavailable(
                f"The audit log is not taking records ({waiting} are waiting), so nothing that "
                "must be recorded is done.",
                hint=_MAX_PENDING_HINT,
                retry_after=Seconds(10),
            )

    def record(self, record: AuditRecord) -> None:
        """Have `record` written. Returns at once.

        Refusals go on when nothing else may be done any more: a flood of them must not take all the
        memory, so past twice MAX_WAITING they are counted, and the log says how many.
        """
        if self._waiting.qsize() >= 2 * MAX_WAITING:
            self._lost += 1
            return
        if self._lost:
            _log.error("%d audit records of refusals are lost: there were too many", self._lost)
            self._lost = 0
        self._waiting.put(record)

    def settle(self) -> None:
        """Block until everything recorded so far has been tried."""
        self._waiting.join()

    def _write_all(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._write(record)
            self._waiting.task_done()

    def _write(self, record: AuditRecord) -> None:
        fields = record.fields()
        for device in self._devices:
            try:
                device.write(fields)
            except OSError as error:
                if not self._is_failing:
                    _log.error("audit device %s: %s", type(device).__name__, error)
                self._is_failing = True
                return
        self._is_failing = False
