"""Model servers elsewhere, and the models they have."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Tokens


class ProviderKind(StrEnum):
    """Which API a provider speaks."""

    OPENAI = "openai"
    OPENAI_RESPONSES = "openai-responses"
    DEEPSEEK = "deepseek"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"
    OPENAI_COMPATIBLE = "openai-compatible"


CONTINUING: Final = frozenset({ProviderKind.ANTHROPIC, ProviderKind.OLLAMA})
"""Kinds that go on with a last message of the assistant's; others begin a new one."""


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model that a provider answers with.

    id: `<provider>/<name>`. name: what the provider calls it. context_tokens: None if not known.
    is_on: whether its provider can be asked at all.
    """

    id: ModelId
    provider: str
    kind: ProviderKind
    name: str
    context_tokens: Tokens | None = None
    is_on: bool = True
