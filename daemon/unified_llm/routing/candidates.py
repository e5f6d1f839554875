"""What is known of a target before it is asked."""

from dataclasses import dataclass
from typing import Final

from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money
from unified_llm.domain.units import Instant, Seconds, Tokens

LOCAL: Final = "local"
"""What the backend of this machine is called; no provider can be."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target, and what is known of it at this moment.

    backend: LOCAL or the provider's name. context_tokens: None if not known.
    is_resident: loaded and serving. cost: the most that the request costs; None if not known.
    first_content: how long it takes to begin, by what was measured; None if it was not.
    loading: how much of that it would be loaded for; None if not known. leaving: the models that
    would leave memory for it; None if there would not be room even then.
    obstacle: why it can not be asked; None if nothing is known.
    takes_begun: whether it goes on with an answer that another has begun.
    free_at: when the obstacle is gone by itself; None if it will not be, or nobody knows.
    adapted: the model and its adapter that `model` stands for; None if it names no adapter.
    """

    model: ModelId
    backend: str
    context_tokens: Tokens | None = None
    is_resident: bool = False
    cost: Money | None = None
    first_content: Seconds | None = None
    loading: Seconds | None = Seconds(0)
    leaving: tuple[ModelId, ...] | None = ()
    obstacle: UnifiedLlmError | None = None
    free_at: Instant | None = None
    adapted: tuple[ModelId, str] | None = None
    takes_begun: bool = True

    @property
    def is_local(self) -> bool:
        """Whether the request stays on this machine."""
        return self.backend == LOCAL

    @property
    def is_cold(self) -> bool:
        """Whether it would have to be loaded first."""
        return self.is_local and not self.is_resident
