"""The one way in: who may, and what is written down, the same for every operation and door."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import Usage
from unified_llm.domain.errors import Cancelled, InternalError, RequestError, UnifiedLlmError
from unified_llm.domain.ports import Clock
from unified_llm.domain.routing import Attempt
from unified_llm.domain.units import Seconds
from unified_llm.guard.audit import Audit, AuditRecord, Outcome
from unified_llm.guard.permissions import Action, Permissions


def new_request_id() -> str:
    """A name for one request, unique enough to find it in logs: 16 hexadecimal digits."""
    return secrets.token_hex(8)


@dataclass(slots=True)
class Entry:
    """One use of the daemon while it lasts.

    attempts, usage: filled in by the operation once they are known; None is recorded as unknown.
    """

    request: str
    attempts: tuple[Attempt, ...] = ()
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets uses in and records how they end."""

    permissions: Permissions
    audit: Audit
    clock: Clock

    @contextmanager
    def open_entry(
        self,
        caller: Caller,
        action: Action,
        target: str,
        *,
        request: str | None = None,
        only_refusals: bool = False,
    ) -> Iterator[Entry]:
        """Admit one use, and record its end however it ends.

        request: the id under which the door knows it; drawn if None.
        only_refusals: what is admitted here is recorded elsewhere, when it ends.
        Raises NotPermitted, AuditUnavailable.
        """
        recording = self._open_record(caller, action, target, request, only_refusals=only_refusals)
        with recording as entry:
            if action.is_recorded:
                self.audit.ensure_available()
            self.permissions.ensure_may(caller, action, target)
            yield entry

    @contextmanager
    def open_question(self, caller: Caller, action: Action, target: str) -> Iterator[None]:
        """Record the refusal that the body raises; it asks somebody else than our table."""
        with self._open_record(caller, action, target, None, only_refusals=True):
            yield

    @contextmanager
    def _open_record(
        self,
        caller: Caller,
        action: Action,
        target: str,
        request: str | None,
        *,
        only_refusals: bool,
    ) -> Iterator[Entry]:
        entry = Entry(request or new_request_id())
        begun = self.clock.now()
        outcome, code = Outcome.DONE, None
        try:
            yield entry
        except UnifiedLlmError as error:
            outcome, code = _outcome_of(error), error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = Outcome.CANCELLED
            raise
        except BaseException:
            outcome, code = Outcome.FAILED, InternalError.code
            raise
        finally:
            is_recorded = action.is_recorded and not only_refusals
            if is_recorded or outcome is Outcome.REFUSED:
                usage = entry.usage
                self.audit.record(
                    AuditRecord(
                        caller=caller,
                        action=action,
                        object=target,
                        request=entry.request,
                        outcome=outcome,
                        duration=Seconds(self.clock.now() - begun),
                        code=code,
                        attempts=entry.attempts,
                        prompt_tokens=usage.prompt_tokens if usage else None,
                        completion_tokens=usage.completion_tokens if usage else None,
                    )
                )


def _outcome_of(error: UnifiedLlmError) -> Outcome:
    match error:
        case Cancelled():
            return Outcome.CANCELLED
        case RequestError():
            return Outcome.REFUSED
        case _:
            return Outcome.FAILED
