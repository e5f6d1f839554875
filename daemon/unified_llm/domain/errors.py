"""Everything that can go wrong, on one screen.

UnifiedLlmError
  RequestError                 the caller can fix it
    UnknownModel  UnknownObject  InvalidRequest  NotPermitted  AuthenticationRequired
    AuthenticationDismissed  RateLimited  TooLarge  Quarantined  Cancelled
    ModelInUse  LocalOnly  ProviderRefused  ContentFiltered
  UnavailableError             time or the operator can fix it
    NoRoom  GpuUnusable  QueueFull  ModelFailedToLoad  WorkerDied  RequestTimedOut  Draining
    Closing  Inhibited  AuditUnavailable  StoreUnavailable  DiskFull
    ProviderDown  ProviderFailed  ProviderOverloaded  ProviderDenied  BudgetSpent
  ConfigurationError           the operator's file is wrong; carries every problem at once
  InternalError                a bug; shows an id, the log holds the cause

The two trunks and the root are never raised themselves. Each class has a stable kebab-case `code`,
a message that states the fact with its numbers, and a `hint` that says what to do next. No HTTP
status and no D-Bus name lives here: each edge has one table outwards, and a test walks this tree.
"""

from dataclasses import dataclass
from typing import ClassVar

from unified_llm.domain.units import Seconds


class UnifiedLlmError(Exception):
    """Root of every error this project raises on purpose.

    message: the fact, with its numbers, fit to show to the caller.
    hint: what to do next; empty if the message says it.
    retry_after: seconds after which trying again makes sense; None if waiting does not help.
    """

    code: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "", retry_after: Seconds | None = None) -> None:
        if not type(self).code:
            raise TypeError(f"{type(self).__name__} is abstract: raise one of its subclasses")
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class RequestError(UnifiedLlmError):
    """The caller can fix it."""


class UnknownModel(RequestError):
    """No model of that id is configured or was found by the scan."""

    code = "unknown-model"


class UnknownObject(RequestError):
    """No job or other object of that id exists (any more)."""

    code = "unknown-object"


class InvalidRequest(RequestError):
    """A field is missing, of the wrong type, out of range, or unknown.

    parameter: the path of the offending field, such as `messages[2].content`; None for the whole.
    """

    code = "invalid-request"

    def __init__(self, message: str, *, hint: str = "", parameter: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.parameter = parameter


class NotPermitted(RequestError):
    """The caller's kernel-verified identity does not allow this."""

    code = "not-permitted"


class AuthenticationRequired(RequestError):
    """It is allowed after somebody has authenticated, and the caller did not let us ask."""

    code = "authentication-required"


class AuthenticationDismissed(RequestError):
    """Somebody was asked to authenticate and has closed the dialog."""

    code = "authentication-dismissed"


class RateLimited(RequestError):
    """This caller has asked for more than its share; waiting helps."""

    code = "rate-limited"


class TooLarge(RequestError):
    """The request is larger than a stated limit (bytes, or tokens against the context).

    From a Backend it is always the context.
    """

    code = "too-large"


class Quarantined(RequestError):
    """This very request has killed workers before and is refused for a while."""

    code = "quarantined"


class ModelInUse(RequestError):
    """The model is loaded or about to be, and what was asked would take it away."""

    code = "model-in-use"


class LocalOnly(RequestError):
    """It may not leave this machine, and nothing on it may answer."""

    code = "local-only"


class Cancelled(RequestError):
    """The caller, or somebody allowed to, has cancelled it."""

    code = "cancelled"


class ProviderRefused(RequestError):
    """A provider will not take this request as it is; another may.

    has_answered: it has taken it, and answered something else; it will want its money.
    """

    code = "provider-refused"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        retry_after: Seconds | None = None,
        has_answered: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, retry_after=retry_after)
        self.has_answered = has_answered


class ContentFiltered(RequestError):
    """A provider refuses what the request says, before it has answered anything."""

    code = "content-filtered"


class UnavailableError(UnifiedLlmError):
    """Time or the operator can fix it."""


class NoRoom(UnavailableError):
    """The model does not fit in memory, even after everything that may leave has left."""

    code = "no-room"


class GpuUnusable(UnavailableError):
    """The engine can not compute on the GPUs that the machine has."""

    code = "gpu-unusable"


class QueueFull(UnavailableError):
    """The bounded queue of the model is full."""

    code = "queue-full"


class ModelFailedToLoad(UnavailableError):
    """The worker refused the model, or died while loading it."""

    code = "model-failed-to-load"


class WorkerDied(UnavailableError):
    """The worker ended, or made no progress and was ended, while serving this request."""

    code = "worker-died"


class RequestTimedOut(UnavailableError):
    """A stated deadline passed: in the queue, for the first token, between tokens, or in all."""

    code = "request-timed-out"


class Draining(UnavailableError):
    """The model is being unloaded, and what it was asked is not finished."""

    code = "draining"


class Inhibited(UnavailableError):
    """A program holds an inhibitor against it."""

    code = "inhibited"


class Closing(UnavailableError):
    """The daemon is stopping and takes no new work."""

    code = "closing"


class AuditUnavailable(UnavailableError):
    """The audit log takes no records, and what can not be recorded is not done."""

    code = "audit-unavailable"


class StoreUnavailable(UnavailableError):
    """What the daemon keeps on disk is busy, can not be written, or was set aside as damaged."""

    code = "store-unavailable"


class DiskFull(UnavailableError):
    """The file system has no room for what was to be written."""

    code = "disk-full"


class ProviderDown(UnavailableError):
    """No connection to a provider came about, so it has not seen the request."""

    code = "provider-down"


class ProviderFailed(UnavailableError):
    """A provider broke off, sent what is no answer, or reported a fault of its own."""

    code = "provider-failed"


class ProviderOverloaded(UnavailableError):
    """A provider has more to do than it can, or we have used up what it grants us."""

    code = "provider-overloaded"


class ProviderDenied(UnavailableError):
    """A provider does not accept our key or account, or there is no key."""

    code = "provider-denied"


class BudgetSpent(UnavailableError):
    """A budget has less left than the request may cost."""

    code = "budget-spent"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration file.

    key: dotted path, such as `models.tiny.path`; empty for the file as a whole.
    line: 1-based line in the file; None if it cannot be told.
    expected: what would have been right, as half a sentence.
    """

    key: str
    line: int | None
    message: str
    expected: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        name = f"{self.key}: " if self.key else ""
        wanted = f" (expected {self.expected})" if self.expected else ""
        return f"{where}{name}{self.message}{wanted}"


class ConfigurationError(UnifiedLlmError):
    """The operator's file is wrong. Carries every problem, not just the first."""

    code = "configuration"

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        count = len(problems)
        noun = "problem" if count == 1 else "problems"
        super().__init__(
            f"{source}: {count} {noun}\n" + "\n".join(f"  {problem}" for problem in problems)
        )
        self.source = source
        self.problems = problems


class InternalError(UnifiedLlmError):
    """A bug of ours. The caller sees only the id; the log line with that id holds the cause."""

    code = "internal"

    def __init__(self, incident: str) -> None:
        super().__init__(
            f"Internal error {incident}.", hint="The daemon's log holds the details under this id."
        )
        self.incident = incident


def concrete_errors() -> tuple[type[UnifiedLlmError], ...]:
    """Every class that can be raised, for the tables at the edges and the tests of them."""
    found: list[type[UnifiedLlmError]] = []
    waiting: list[type[UnifiedLlmError]] = [UnifiedLlmError]
    while waiting:
        error = waiting.pop()
        waiting.extend(error.__subclasses__())
        if error.code:
            found.append(error)
    return tuple(sorted(found, key=lambda error: error.code))
