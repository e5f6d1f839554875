"""Several answers to one request, as the official client asks for them, from the real engine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

_ASKED: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "tell me of the blue sky and of the green sea"}],
    "max_tokens": 9,
    "temperature": 1.5,
}


@contextmanager
def open_tiny_daemon(**settings: Any) -> Iterator[WholeDaemon]:
    """A daemon whose model `tiny` is computed by llama.cpp."""
    worker = {"engine": "llama", "stall_seconds": PATIENCE}
    with open_daemon({"worker": worker, **settings}, with_bus=False) as daemon:
        yield daemon


def texts_of(client: openai.OpenAI, seeds: range) -> list[str | None]:
    """What each seed alone is answered."""
    return [
        client.chat.completions.create(**_ASKED, seed=seed).choices[0].message.content
        for seed in seeds
    ]


def streamed(client: openai.OpenAI, **changes: Any) -> tuple[dict[int, str], list[Any]]:
    """Each choice's text, and all chunks."""
    texts: dict[int, str] = {}
    chunks = list(client.chat.completions.create(**_ASKED | changes, stream=True))
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    return texts, chunks


def test_each_choice_is_the_answer_to_its_own_seed_and_all_are_one_request() -> None:
    with open_tiny_daemon() as daemon, daemon.open_openai() as client:
        alone = texts_of(client, range(5, 9))
        assert len(set(alone)) == 4
        whole = client.chat.completions.create(**_ASKED, seed=5, n=4)
        assert [each.index for each in whole.choices] == [0, 1, 2, 3]
        assert [each.message.content for each in whole.choices] == alone
        assert {each.finish_reason for each in whole.choices} == {"length"}
        assert whole.usage is not None
        one = client.chat.completions.create(**_ASKED, seed=5)
        assert one.usage is not None
        assert whole.usage.prompt_tokens == one.usage.prompt_tokens
        assert whole.usage.completion_tokens == 4 * 9

        options = {"include_usage": True}
        texts, chunks = streamed(client, seed=5, n=4, stream_options=options)
        assert [texts[index] for index in range(4)] == alone
        ends = [each for one in chunks for each in one.choices if each.finish_reason]
        assert sorted((each.index, each.finish_reason) for each in ends) == [
            (index, "length") for index in range(4)
        ]
        assert chunks[-1].usage.completion_tokens == 36

        told = [int(record["UNIFIED_LLM_COMPLETION_TOKENS"]) for record in daemon.audit(7)]
        assert told == [9, 9, 9, 9, 36, 9, 36]


def test_one_slot_answers_all_one_after_the_other() -> None:
    with open_tiny_daemon(defaults={"context_tokens": 256, "slots": 1}) as daemon:
        with daemon.open_openai() as client:
            alone = texts_of(client, range(2, 5))
            texts, _ = streamed(client, seed=2, n=3)
        assert [texts[index] for index in range(3)] == alone


def test_closing_the_stream_stops_every_choice(tmp_path: Path) -> None:
    # Chances are large: what is not read fills every buffer long before the answers are whole, so
    # they can not be, however long this test stands still.
    asked = _ASKED | {"max_tokens": 900, "logprobs": True, "top_logprobs": 20}
    path = write_tiny_gguf(tmp_path / "long.gguf", context_tokens=1024)
    tiny = {"path": str(path), "context_tokens": 1024, "slots": 4}
    with (
        open_tiny_daemon(models={"directory": None, "tiny": tiny}) as daemon,
        daemon.open_openai() as client,
        daemon.open_http() as http,
    ):
        stream = client.chat.completions.create(
            **asked, n=4, stream=True, extra_body={"ignore_eos": True}
        )
        begun: set[int] = set()
        for chunk in stream:
            begun |= {choice.index for choice in chunk.choices}
            if len(begun) == 4:
                break
        assert http.get("/v1/models/tiny").json()["x_unified_llm"]["running"] == 4
        stream.close()
        (record,) = daemon.audit(1)
        assert record["UNIFIED_LLM_RESULT"] == "cancelled"
        after = http.get("/v1/models/tiny").json()["x_unified_llm"]
        assert (after["running"], after["waiting"]) == (0, 0)


def test_more_than_four_are_refused_with_the_numbers() -> None:
    with open_tiny_daemon() as daemon, daemon.open_http() as http:
        refused = http.post("/v1/chat/completions", json=_ASKED | {"n": 5})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "n"
        assert "n is 5; allowed is 1 to 4" in json.dumps(refused.json())
