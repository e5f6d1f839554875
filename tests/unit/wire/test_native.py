"""Health and status, as written and as read."""

import pytest

from unified_llm.domain.errors import InvalidRequest
from unified_llm.wire.native import (
    HealthBody,
    MemoryBody,
    RequestsBody,
    StatusBody,
    WorkerBody,
    decode_body,
    encode_body,
)

HEALTH = HealthBody(ready=True, state="degraded", degraded=("no GPU",))
STATUS = StatusBody(
    version="1.2.3",
    health=HEALTH,
    uptime_seconds=1.5,
    models={"ready": 1},
    requests=RequestsBody(running=1, waiting=2),
    memory=MemoryBody(budget_bytes=8, committed_bytes=3),
    workers=(WorkerBody(model="tiny", sandbox=("landlock-7", "seccomp")),),
)


def test_what_is_written_is_read_back() -> None:
    assert decode_body(HealthBody, encode_body(HEALTH)) == HEALTH
    assert decode_body(StatusBody, encode_body(STATUS)) == STATUS


def test_an_older_client_reads_a_newer_daemon() -> None:
    newer = encode_body(HEALTH).replace(b"{", b'{"phase_of_the_moon":"full",', 1)
    assert decode_body(HealthBody, newer) == HEALTH


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"ready": "perhaps"}', b"\xff"])
def test_what_is_no_answer_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="HealthBody"):
        decode_body(HealthBody, raw)
