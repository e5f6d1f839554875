"""How likely tokens were, in OpenAI's words; the same on every door."""

from collections.abc import Sequence

from unified_llm.domain.chat import TokenChance, TokenLogprob


def told_logprobs(tokens: Sequence[TokenLogprob]) -> list[dict[str, object]]:
    """A JSON object for each token. `bytes` tells what `token` cannot: halves of characters."""
    return [
        {**_chance(token.chosen), "top_logprobs": [_chance(each) for each in token.top]}
        for token in tokens
    ]


def _chance(chance: TokenChance) -> dict[str, object]:
    return {
        "token": chance.text,
        "logprob": chance.logprob,
        "bytes": None if chance.data is None else list(chance.data),
    }
