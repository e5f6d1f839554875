"""What an answer costs, and the most it can cost before it is given."""

from typing import Final

from unified_llm.domain.chat import ChatRequest, Usage
from unified_llm.domain.embeddings import EmbeddingRequest
from unified_llm.domain.money import Money, Price

# A token is at least a byte. Beside its text a message has a role and separators, and a provider
# may put instructions of its own before the first.
_TOKENS_PER_MESSAGE: Final = 16
_TOKENS_BEFORE: Final = 64


def cost_of(price: Price, usage: Usage) -> Money | None:
    """What `usage` costs, to the picodollar.

    None if a price that it takes is not known, or no request can have taken it.
    """
    if not usage.is_possible:
        return None
    plain = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
    thought = usage.reasoning_tokens or 0
    parts = (
        (plain, price.input),
        (usage.cached_tokens, price.cached),
        (usage.cache_write_tokens - usage.long_cache_write_tokens, price.cache_write),
        (usage.long_cache_write_tokens, price.long_cache_write),
        (usage.completion_tokens - thought, price.output),
        (thought, price.output if price.reasoning is None else price.reasoning),
    )
    cost = 0
    for tokens, each in parts:
        if tokens and each is None:
            return None
        cost += tokens * (each or 0)
    return Money(cost)


def most_prompt_tokens(request: ChatRequest) -> int:
    """How many tokens the texts of `request` have at most, whatever the vocabulary."""
    messages = request.messages
    sent = sum(len(message.content.encode()) for message in messages) + len(request.begun.encode())
    calls = (call for message in messages for call in message.tool_calls)
    sent += sum(len(f"{call.name}{call.arguments}".encode()) for call in calls)
    tools = request.tool_use.tools if request.tool_use is not None else ()
    sent += sum(len(f"{each.name}{each.description}{each.parameters}".encode()) for each in tools)
    if request.answer is not None and request.answer.schema is not None:
        sent += len(request.answer.schema.encode())
    return sent + _TOKENS_BEFORE + _TOKENS_PER_MESSAGE * (len(messages) + len(tools))


def most_text_tokens(request: EmbeddingRequest) -> int:
    """How many tokens the texts of `request` have at most; each may get some around it."""
    return sum(len(text.encode()) + _TOKENS_PER_MESSAGE for text in request.texts)


def most_cost(price: Price, prompt: int, completion: int) -> Money:
    """The most that so many tokens cost, whatever the provider caches or the model thinks."""
    kept = max(price.cache_write or 0, price.long_cache_write or 0)
    dearest = max(price.input, price.cached or 0, kept)
    said = max(price.output, price.reasoning or 0)
    return Money(prompt * dearest + completion * said)
