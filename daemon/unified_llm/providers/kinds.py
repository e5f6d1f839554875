"""Every kind of provider, and the API it speaks."""

from collections.abc import Callable
from typing import Final

from unified_llm.domain.providers import ProviderKind
from unified_llm.providers.anthropic import Messages
from unified_llm.providers.api import Api
from unified_llm.providers.chat_completions import ChatCompletions
from unified_llm.providers.embeddings import EmbeddingApi, OllamaEmbeddings, OpenAiEmbeddings
from unified_llm.providers.ollama import OllamaChat
from unified_llm.providers.responses import Responses

APIS: Final[dict[ProviderKind, Callable[[], Api]]] = {
    # `max_tokens` is refused by OpenAI's reasoning models.
    ProviderKind.OPENAI: lambda: ChatCompletions(limit_field="max_completion_tokens"),
    ProviderKind.OPENAI_RESPONSES: Responses,
    ProviderKind.DEEPSEEK: ChatCompletions,
    ProviderKind.ANTHROPIC: Messages,
    ProviderKind.OLLAMA: OllamaChat,
    ProviderKind.OPENAI_COMPATIBLE: ChatCompletions,
}

EMBEDDING_APIS: Final[dict[ProviderKind, EmbeddingApi]] = {
    ProviderKind.OPENAI: OpenAiEmbeddings(),
    ProviderKind.OPENAI_RESPONSES: OpenAiEmbeddings(),
    ProviderKind.OLLAMA: OllamaEmbeddings(),
    ProviderKind.OPENAI_COMPATIBLE: OpenAiEmbeddings(),
}
"""Those that make vectors."""


def api_of(kind: ProviderKind, *, with_summary: bool = False) -> Api:
    """The API of `kind`. with_summary: as in Responses, the only one that can."""
    return Responses(with_summary=True) if with_summary else APIS[kind]()
