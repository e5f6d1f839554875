"""What h11 lets through and we do not: sizes, and fields that have no business on this socket.

Pure like h11 itself: bytes in, events or a refusal out.
"""

import h11

from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.wire.problem import INVALID, PERMISSION, DoorCode, HttpProblem


class RefusedRequest(h11.RemoteProtocolError):
    """The request will not be served; the connection ends after `problem` has been sent."""

    def __init__(self, problem: HttpProblem) -> None:
        super().__init__(problem.message, error_status_hint=problem.status)
        self.problem = problem


class Intake(h11.Connection):
    """The server's side of one connection, which also counts.

    problem: why the connection must end; None while nothing is wrong.
    """

    def __init__(self, limits: HttpLimits) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self.problem: HttpProblem | None = None
        self._limits = limits
        self._body_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """As in h11. Raises RemoteProtocolError, and then `problem` says what to answer."""
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._check_head(event)
            elif isinstance(event, h11.Data):
                self._count_body(len(event.data))
        except RefusedRequest as error:
            self.problem = error.problem
            raise
        except h11.RemoteProtocolError as error:
            self.problem = _malformed(error, self._limits)
            raise
        return event

    def _check_head(self, head: h11.Request) -> None:
        self._body_bytes = 0
        size = len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
        # h11 limits a head that is incomplete; one that came in a single read is its caller's.
        if size > self._limits.head_bytes or len(head.headers) > self._limits.head_fields:
            raise RefusedRequest(_head_too_large(self._limits))
        fields = dict(head.headers)
        if b"origin" in fields:
            raise RefusedRequest(_FROM_BROWSER)
        if fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise RefusedRequest(_ENCODED)
        if b"content-length" in fields:
            if b"transfer-encoding" in fields:
                raise RefusedRequest(_TWO_LENGTHS)
            self._ensure_fits(int(fields[b"content-length"]))

    def _count_body(self, size: int) -> None:
        self._body_bytes += size
        self._ensure_fits(self._body_bytes)

    def _ensure_fits(self, size: int) -> None:
        limit = self._limits.body_bytes
        if size > limit:
            message = f"The body has more than {limit} bytes, which is the most."
            raise RefusedRequest(HttpProblem(413, INVALID, DoorCode.BODY_TOO_LARGE, message))


# A web page that gets hold of a proxy to the socket must not use the user's models
# (CVE-2024-28224 of Ollama); no program but a browser sends this field.
_FROM_BROWSER = HttpProblem(
    403,
    PERMISSION,
    DoorCode.ORIGIN_REFUSED,
    "Requests of web pages (with an `Origin` field) are refused.",
)
_ENCODED = HttpProblem(
    415,
    INVALID,
    DoorCode.UNSUPPORTED_ENCODING,
    "A body with `Content-Encoding` is refused. Send it uncompressed.",
)
_TWO_LENGTHS = HttpProblem(
    400,
    INVALID,
    DoorCode.MALFORMED_HTTP,
    "The request has both `Content-Length` and `Transfer-Encoding`. Send one of them.",
)


def _head_too_large(limits: HttpLimits) -> HttpProblem:
    return HttpProblem(
        431,
        INVALID,
        DoorCode.HEAD_TOO_LARGE,
        f"The head of the request has more than {limits.head_bytes} bytes or "
        f"{limits.head_fields} fields, which is the most.",
    )


def _malformed(error: h11.RemoteProtocolError, limits: HttpLimits) -> HttpProblem:
    if error.error_status_hint == 431:
        return _head_too_large(limits)
    # h11's texts may quote the request; what is not text is left out of the answer.
    reason = str(error)[:200].encode(errors="replace").decode()
    return HttpProblem(
        error.error_status_hint,
        INVALID,
        DoorCode.MALFORMED_HTTP,
        f"This is not HTTP/1.1: {reason}.",
    )
