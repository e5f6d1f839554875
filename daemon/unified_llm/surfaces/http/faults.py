"""Whatever went wrong, as something a client may be told."""

import logging

from starlette.responses import Response

from unified_llm.domain.errors import InternalError, UnifiedLlmError
from unified_llm.wire.problem import HttpProblem, describe

REQUEST_ID_HEADER = "x-request-id"

_log = logging.getLogger(__name__)


def ensure_ours(error: Exception, request_id: str) -> UnifiedLlmError:
    """`error` if it is meant for callers; else an InternalError, and the cause goes to the log."""
    if isinstance(error, UnifiedLlmError):
        return error
    _log.error("incident %s", request_id, exc_info=error)
    return InternalError(request_id)


def problem_response(problem: HttpProblem, request_id: str) -> Response:
    """The answer that says no."""
    headers = {REQUEST_ID_HEADER: request_id, **problem.headers()}
    return Response(problem.encode(), problem.status, headers, "application/json")


def error_response(error: Exception, request_id: str) -> Response:
    """The answer to a request that failed with `error`."""
    return problem_response(describe(ensure_ours(error, request_id)), request_id)
