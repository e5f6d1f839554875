"""Asks the one model that shall make vectors.

Rule 1: nobody is asked in its place. Vectors of two models can not be compared, and whoever keeps
them would find out much later.
Rule 2: money, breakers and waiting are those of a chat. But vectors have no first content that
shows that they will be paid: a provider's are, from when it is asked, unless it says no.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import Usage
from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings
from unified_llm.domain.errors import (
    ContentFiltered,
    InvalidRequest,
    LocalOnly,
    ProviderDenied,
    ProviderDown,
    ProviderOverloaded,
    ProviderRefused,
    TooLarge,
    UnifiedLlmError,
)
from unified_llm.domain.ports import Embedder
from unified_llm.domain.units import Tokens
from unified_llm.routing.asking import wait_until
from unified_llm.routing.attempts import Attempts
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.directory import Directory
from unified_llm.routing.prices import most_text_tokens
from unified_llm.routing.router import Router

_NOT_TAKEN: Final = (
    ContentFiltered,
    InvalidRequest,
    LocalOnly,
    ProviderDenied,
    ProviderDown,
    ProviderOverloaded,
    ProviderRefused,
    TooLarge,
)
"""What shows that no vector was made. After any other ending there may be a bill."""


@dataclass(frozen=True, slots=True)
class VectorRouter:
    """Carries out plans of one target. router: whose books are kept."""

    directory: Directory[Embedder]
    router: Router

    async def embed(
        self, attempts: Attempts, request: EmbeddingRequest, caller: Caller
    ) -> Embeddings:
        """All vectors. Cancelling stops the work. Raises any UnifiedLlmError."""
        timers = self.router.timers
        while (following := attempts.next(timers.now())) is not None:
            await wait_until(following.moment, timers)
            try:
                found = await self._ask(following.candidate, attempts, request, caller)
            except UnifiedLlmError as error:
                if not attempts.failed(error, timers.now()):
                    raise
            else:
                return replace(found, attempts=attempts.trail)
        raise attempts.verdict()

    async def _ask(
        self, candidate: Candidate, attempts: Attempts, request: EmbeddingRequest, caller: Caller
    ) -> Embeddings:
        kept_local = attempts.plan.kept_local is not None
        asked = replace(request, model=candidate.model, local_only=kept_local)
        books, clock = self.router, self.router.timers
        with ExitStack() as stack:
            prompt = most_text_tokens(request)
            held = books.accounts.most(candidate.model, candidate.backend, prompt, 0)
            charge = books.accounts.begin(candidate, held, caller)
            stack.callback(charge.end)
            visit = books.health.begin(candidate.backend, clock.now())
            stack.callback(visit.end)
            if not candidate.is_local:
                charge.began()
            try:
                found = await self.directory.backend(candidate.backend).embed(asked, caller)
            except UnifiedLlmError as error:
                visit.failed(error, clock.now())
                if _was_not_taken(error):
                    charge.refused()
                raise
            visit.finished(clock.now())
            return replace(found, cost=charge.finished(_usage(found)))


def _was_not_taken(error: UnifiedLlmError) -> bool:
    has_answered = isinstance(error, ProviderRefused) and error.has_answered
    return isinstance(error, _NOT_TAKEN) and not has_answered


def _usage(found: Embeddings) -> Usage | None:
    return None if found.prompt_tokens is None else Usage(found.prompt_tokens, Tokens(0))
