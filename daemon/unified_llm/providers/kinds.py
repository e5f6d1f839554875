"""Every kind of provider: the API it speaks, and where it is if nobody says."""

from collections.abc import Callable
from typing import Final

from unified_llm.domain.providers import ProviderKind
from unified_llm.providers.api import Api
from unified_llm.providers.chat_completions import ChatCompletions

APIS: Final[dict[ProviderKind, Callable[[], Api]]] = {
    # `max_tokens` is refused by OpenAI's reasoning models.
    ProviderKind.OPENAI: lambda: ChatCompletions(limit_field="max_completion_tokens"),
    ProviderKind.DEEPSEEK: ChatCompletions,
    ProviderKind.OPENAI_COMPATIBLE: ChatCompletions,
}
