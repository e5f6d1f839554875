"""The whole daemon: conversations go on after their model has left and come back."""

from typing import Any

import pytest

from tests.real_models import smollm2
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

_RULES = "You are the keeper of a lighthouse and answer in one short sentence. " * 8
_FIRST: list[Any] = [
    {"role": "system", "content": _RULES},
    {"role": "user", "content": "What is the capital of France?"},
]
_ONE_AT_A_TIME = {
    # Neither fits beside the other.
    "memory": {"ram_budget_bytes": 450 * 2**20, "kept_states_bytes": 64 * 2**20},
}


def settings_of(**changes: Any) -> dict[str, Any]:
    model = {"path": str(smollm2()), "context_tokens": 1024}
    return {
        "models": {"directory": None, "a": model, "b": {**model, "context_tokens": 1000}},
        "worker": {"engine": "llama", "stall_seconds": PATIENCE},
        **changes,
    }


def ask(daemon: WholeDaemon, messages: list[Any], model: str = "a") -> tuple[str, int, int]:
    """The answer, the tokens of the prompt, and how many of them needed no computing."""
    with daemon.open_http() as client:
        body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 16}
        answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    usage = answer["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return answer["choices"][0]["message"]["content"], usage["prompt_tokens"], cached


def follow(answer: str) -> list[Any]:
    return [
        *_FIRST,
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "And of Spain?"},
    ]


def test_the_second_turn_after_another_model_was_there_skips_the_prefill() -> None:
    with open_daemon(settings_of(), with_bus=False) as daemon:
        first, _, _ = ask(daemon, _FIRST)
        expected = ask(daemon, follow(first))
    with open_daemon(settings_of(**_ONE_AT_A_TIME), with_bus=False) as daemon:
        first, first_tokens, cached = ask(daemon, _FIRST)
        assert cached == 0
        (worker,) = daemon.workers()
        ask(daemon, _FIRST, "b")
        assert daemon.workers() != [worker]
        second = ask(daemon, follow(first))
        assert second == expected
        assert second[2] >= first_tokens
