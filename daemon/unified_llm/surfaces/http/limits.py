"""What a client of the HTTP door may take of time and space."""

from dataclasses import dataclass

from unified_llm.domain.units import Bytes, Seconds


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """One set of limits for every connection. Each exists because a server without it was held up.

    head_bytes, head_fields: of one request's head. body_bytes: counted while it arrives.
    head_seconds, body_seconds: from the first byte of each to its last, however it trickles.
    idle_seconds: without a request. write_seconds: a client not reading what was sent.
    connections, connections_per_uid: open at the same time.
    silence_seconds: how long a stream's status is held back for its first event.
    ping_seconds: silence in a stream after which a comment is sent.
    flush_seconds: what clients get to read their last event when the door closes.
    """

    head_bytes: Bytes = Bytes(32 * 1024)
    head_fields: int = 100
    body_bytes: Bytes = Bytes(8 * 1024 * 1024)
    head_seconds: Seconds = Seconds(10)
    body_seconds: Seconds = Seconds(30)
    idle_seconds: Seconds = Seconds(60)
    write_seconds: Seconds = Seconds(30)
    connections: int = 1024
    connections_per_uid: int = 64
    silence_seconds: Seconds = Seconds(2)
    ping_seconds: Seconds = Seconds(10)
    flush_seconds: Seconds = Seconds(2)
