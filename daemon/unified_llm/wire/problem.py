"""Every error as an HTTP answer: the one table outwards of the HTTP door.

429 means this caller has had its share, 503 that the system is busy; either says in `Retry-After`
when to come back, if waiting helps. The official client tries 408, 409, 429 and 5xx again by
itself, so those for which that is no use carry `x-should-retry: false`.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from unified_llm.domain import errors
from unified_llm.domain.errors import InvalidRequest, UnifiedLlmError
from unified_llm.domain.units import Seconds

INVALID = "invalid_request_error"
PERMISSION = "permission_error"
RATE_LIMIT = "rate_limit_error"
SERVER = "server_error"

TABLE: dict[type[UnifiedLlmError], tuple[int, str]] = {
    errors.AuditUnavailable: (503, SERVER),
    errors.AuthenticationDismissed: (403, PERMISSION),
    errors.AuthenticationRequired: (403, PERMISSION),
    errors.BudgetSpent: (429, RATE_LIMIT),
    errors.Cancelled: (499, INVALID),  # as nginx and gRPC say it; nobody tries it again
    errors.Closing: (503, SERVER),
    errors.ConfigurationError: (500, SERVER),
    errors.ContentFiltered: (400, INVALID),
    errors.DiskFull: (507, SERVER),
    errors.Draining: (503, SERVER),
    errors.GpuUnusable: (503, SERVER),
    errors.Inhibited: (503, SERVER),
    errors.InternalError: (500, SERVER),
    errors.InvalidRequest: (400, INVALID),
    errors.LocalOnly: (403, PERMISSION),
    errors.ModelFailedToLoad: (503, SERVER),
    errors.ModelInUse: (409, INVALID),
    errors.NoRoom: (503, SERVER),
    errors.NotPermitted: (403, PERMISSION),
    errors.ProviderDenied: (502, SERVER),
    errors.ProviderDown: (502, SERVER),
    errors.ProviderFailed: (502, SERVER),
    errors.ProviderOverloaded: (503, SERVER),
    errors.ProviderRefused: (400, INVALID),
    errors.Quarantined: (422, INVALID),
    errors.QueueFull: (503, SERVER),
    errors.RateLimited: (429, RATE_LIMIT),
    errors.RequestTimedOut: (504, SERVER),
    errors.StoreUnavailable: (503, SERVER),
    errors.TooLarge: (413, INVALID),
    errors.UnknownModel: (404, INVALID),
    errors.UnknownObject: (404, INVALID),
    errors.WorkerDied: (502, SERVER),
}
"""(status, OpenAI error type) of each concrete class; a test walks them all."""


class DoorCode(StrEnum):
    """Why the HTTP door refuses by itself, before any operation is asked."""

    BODY_TOO_LARGE = errors.TooLarge.code
    HEAD_TOO_LARGE = "head-too-large"
    MALFORMED_HTTP = "malformed-http"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    ORIGIN_REFUSED = "origin-refused"
    REQUEST_TOO_SLOW = "request-too-slow"
    UNKNOWN_ROUTE = "unknown-route"
    UNSUPPORTED_ENCODING = "unsupported-encoding"


@dataclass(frozen=True, slots=True)
class HttpProblem:
    """An answer that says no.

    kind: the `type` of OpenAI's error object. parameter: path of the wrong field; None for none.
    retry_after: seconds; None if waiting does not help.
    """

    status: int
    kind: str
    code: str
    message: str
    parameter: str | None = None
    retry_after: Seconds | None = None

    def headers(self) -> dict[str, str]:
        """The headers that belong to it, beside those of any JSON."""
        if self.retry_after is not None:
            return {"retry-after": str(max(1, math.ceil(self.retry_after)))}
        is_retried = self.status in (408, 409, 429) or self.status >= 500
        return {"x-should-retry": "false"} if is_retried else {}

    def body(self) -> dict[str, object]:
        """OpenAI's error object."""
        return {
            "message": self.message,
            "type": self.kind,
            "param": self.parameter,
            "code": self.code,
        }

    def encode(self) -> bytes:
        """The whole JSON body."""
        return msgspec.json.encode({"error": self.body()})


def describe(error: UnifiedLlmError) -> HttpProblem:
    """How `error` is told to an HTTP client."""
    status, kind = TABLE[type(error)]
    # Half a character in a message would come from the request and can not be encoded.
    message = str(error).encode(errors="replace").decode()
    parameter = error.parameter if isinstance(error, InvalidRequest) else None
    return HttpProblem(status, kind, error.code, message, parameter, error.retry_after)
