"""A provider that does everything wrong when it is asked for vectors: all of them, or one error."""

import base64
import json
import struct
from collections.abc import Iterator

import pytest

from tests.fakes.house import USER
from tests.fakes.upstream import Cut, Script, Stall, open_upstream, reply, stream
from unified_llm.domain.embeddings import EmbeddingRequest
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.providers import ProviderKind
from unified_llm.domain.units import Seconds
from unified_llm.fleet.timers import LoopTimers
from unified_llm.providers.backend import Deadlines, Provider
from unified_llm.providers.kinds import APIS
from unified_llm.providers.transport import Address, open_transport

pytestmark = pytest.mark.slow

ASKED = EmbeddingRequest(ModelId("a/x"), ("one", "two"))
VECTORS = [[0.5, -1.0], [0.25, 2.0]]
BODIES = {
    ProviderKind.OPENAI_COMPATIBLE: json.dumps(
        {
            "data": [
                {
                    "index": index,
                    "embedding": base64.b64encode(struct.pack("<2f", *vector)).decode(),
                }
                for index, vector in enumerate(VECTORS)
            ],
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        }
    ).encode(),
    ProviderKind.OLLAMA: json.dumps({"embeddings": VECTORS, "prompt_eval_count": 4}).encode(),
}
STATUSES = (201, 204, 301, 307, 400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529)
Case = tuple[str, Script, bool | None]


def cases(body: bytes) -> Iterator[Case]:
    """A name, what is sent, and whether vectors come of it; None where they may."""
    yield "whole", reply(body), True
    yield "drip", stream(*(body[at : at + 1] for at in range(len(body)))), True
    for status in STATUSES:
        extra = "location: http://127.0.0.1:1/\r\n" if 300 <= status < 400 else ""
        yield f"status {status}", reply(body, status=status, extra=extra), False
    for place in range(0, len(body), 3):
        yield f"cut at {place}", stream(body[:place] or b" ", Cut(), is_whole=False), False
        yield f"ended at {place}", stream(body[:place] or b" "), False
        garbled = body[:place] + b"\xff" + body[place:]
        # In a field that nobody reads it does no harm.
        yield f"garbled at {place}", reply(garbled), None
    yield "twice", reply(body + body), False
    yield "packed", reply(body, extra="content-encoding: gzip\r\n"), False
    yield "no HTTP", [b"SSH-2.0-OpenSSH_9.2\r\n", Cut()], False
    yield "stall", [Stall()], False
    yield "stall half-way", stream(body[:9], Stall(), is_whole=False), False


async def outcome_of(provider: Provider) -> list[list[float]]:
    """The vectors; none if there was an error."""
    try:
        found = await provider.embed(ASKED, USER)
    except UnifiedLlmError:
        return []
    return [list(vector) for vector in found.vectors]


@pytest.mark.parametrize("kind", BODIES)
async def test_vectors_come_whole_or_there_is_one_error(kind: ProviderKind) -> None:
    # A busy machine may take longer for a whole answer than a stalled provider is given.
    async with (
        open_upstream([Cut()]) as upstream,
        open_transport(Address(upstream.url), None) as transport,
    ):
        for name, script, is_answer in cases(BODIES[kind]):
            upstream.scripts = [script]
            patience = Deadlines(total=Seconds(0.5 if name.startswith("stall") else 120))
            provider = Provider("a", kind, APIS[kind](), transport, LoopTimers(), patience, None)
            found = await outcome_of(provider)
            assert found in ([], VECTORS), name
            if is_answer is not None:
                assert bool(found) is is_answer, name
