"""Requests that kill workers, and how they are kept from killing the next one. Pure.

Rules:
1. A worker that dies charges every request it held; who of them did it, the next death shows.
2. A request with CHARGES_ALLOWED charges is refused for a while after the last of them.
3. After that it is on probation: one more charge and it is refused again.
4. No text is kept, only a hash under a key that lives as long as the daemon.
"""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from unified_llm.domain.chat import ChatRequest
from unified_llm.domain.embeddings import EmbeddingRequest, RerankRequest
from unified_llm.domain.errors import Quarantined
from unified_llm.domain.units import Instant, Seconds, later

CHARGES_ALLOWED = 2
REFUSED_FOR = Seconds(600.0)
REMEMBERED_FOR = Seconds(3600.0)
MAX_REMEMBERED = 4096
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class _Charges:
    count: int
    last: Instant


class Quarantine:
    """Counts the deaths a request was part of. key: 16 to 64 random bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._charges: OrderedDict[bytes, _Charges] = OrderedDict()

    def fingerprint(self, request: ChatRequest | EmbeddingRequest | RerankRequest) -> bytes:
        """The same for the same model and content, whoever asks.

        Of a chat the content is its adapter, sampling, form of answer, tools and messages.
        """
        content: object = request
        if isinstance(request, ChatRequest):
            form = (request.adapter, request.answer, request.tool_use)
            content = (request.model, request.sampling, form, request.turns)
        told_apart_by = msgspec.msgpack.encode(content)
        return blake2b(told_apart_by, key=self._key, digest_size=_DIGEST_BYTES).digest()

    def charge(self, fingerprint: bytes, now: Instant) -> None:
        """A worker has died with this request in its hands."""
        known = self._charges.pop(fingerprint, None)
        count = 0 if known is None or _is_forgotten(known, now) else known.count
        self._charges[fingerprint] = _Charges(count + 1, now)
        if len(self._charges) > MAX_REMEMBERED:
            self._charges.popitem(last=False)

    def ensure_allowed(self, fingerprint: bytes, now: Instant) -> None:
        """Raises Quarantined, with the time to wait, if this request is refused at present."""
        known = self._charges.get(fingerprint)
        if known is None or known.count < CHARGES_ALLOWED:
            return
        left = later(known.last, REFUSED_FOR) - now
        if left <= 0:
            return
        raise Quarantined(
            f"This request was being answered when {known.count} workers died; it is refused for "
            f"{left:.0f} s more.",
            hint="Change what is asked; repeating it would take the model from everybody.",
            retry_after=Seconds(left),
        )


def _is_forgotten(charges: _Charges, now: Instant) -> bool:
    return later(charges.last, REMEMBERED_FOR) <= now
