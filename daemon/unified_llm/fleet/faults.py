"""From a worker's word for a failure to the domain's error."""

import logging
import secrets

from unified_llm.domain.errors import (
    ConfigurationError,
    InternalError,
    InvalidRequest,
    UnifiedLlmError,
    concrete_errors,
)
from unified_llm.worker.protocol import Failed

_log = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 500
# These two are not made from a message: one names an incident, one a file of the operator.
_BY_CODE = {
    error.code: error
    for error in concrete_errors()
    if error not in (InternalError, ConfigurationError)
}


def shown(text: str) -> str:
    """What a worker says, cut to a length and rid of control characters, fit for a message."""
    cut = text[:_SHOWN_CHARACTERS] + ("…" if len(text) > _SHOWN_CHARACTERS else "")
    return "".join(c if c.isprintable() else " " for c in cut)


def error_of(failed: Failed) -> UnifiedLlmError:
    """The error that `failed` stands for; a code that we do not know is an InternalError."""
    if failed.code == InvalidRequest.code and failed.parameter is not None:
        return InvalidRequest(shown(failed.message), parameter=shown(failed.parameter))
    error = _BY_CODE.get(failed.code)
    if error is not None:
        return error(shown(failed.message))
    incident = secrets.token_hex(4)
    _log.error(
        "incident %s: a worker failed with code %s: %s",
        incident,
        shown(failed.code),
        shown(failed.message),
    )
    return InternalError(incident)
